"""Labels of a sitting: the Spreader, fed with the strokes of all images, and features computed ahead of the user."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import spml
from spml.app.images import Images
from spml.app.labels import resized
from spml.app.layers import Labels, Recent, main_colours, paint_small, planes, with_kept
from spml.app.state import Class, Drawing, State
from spml.app.store import NOBODY, Store
from spml.app.strokes import boxes, paint, scaled
from spml.classes import MAX_CLASSES, UNLABELLED
from spml.errors import UserError
from spml.records import hash_array

PHOTOS, RESULTS = 8, 6  # held in memory
BUDGET = 0.3  # seconds that a request spends on remembering other images
CANDIDATES = 24  # images that a suggestion looks at
PATIENCE = 0.5  # seconds without a request until features are computed ahead again


class Outdated(UserError):
    """A request for an image that has changed since."""


class Spreading:
    """Spreads the strokes of a store over its images. Every method works in any thread.

    Args:
        images: of the folder.
        store: of their strokes.
        source: of the features, as Spreader takes it.
        cache: a folder for the features.
        publish: called with the name of an event and its content.
        accepted: the accepted labels of an image in ids of some classes.
    """

    def __init__(
        self,
        images: Images,
        store: Store,
        source: Any,
        cache: str | Path | None,
        publish: Callable[[str, dict[str, Any]], None] = lambda name, content: None,
        accepted: Callable[[str, Sequence[Class]], np.ndarray | None] = lambda name, classes: None,
    ) -> None:
        self.images, self.store, self.source, self.cache, self.publish = images, store, source, cache, publish
        self.accepted = accepted
        self.error: str | None = None  # why there are no features
        self.sure: dict[str, float] = {}  # of images that were labelled
        self.done: set[str] = set()  # images with features
        self._spreader: Any = None
        self._ready = threading.Event()
        self._lock = threading.RLock()  # of the Spreader and of what is remembered
        self._looking = threading.Lock()  # of the photos that are held
        self._slots: dict[str, int] = {}  # key of a class to the Spreader's id for it
        self._remembered: dict[str, Drawing] = {}  # what was read, by name
        self._taught: set[str] = set()  # those of them that say anything
        self._knowledge = 0  # counts what was remembered and forgotten
        self._photos, self._results, self._paint = Recent(PHOTOS), Recent(RESULTS), Recent(PHOTOS)
        self._behind = True  # some image's strokes are not remembered yet
        self._busy, self._current = 0.0, ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="features", daemon=True)

    def start(self) -> None:
        """Load the network and begin to compute features ahead."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    @property
    def progress(self) -> dict[str, int]:
        """How many images have features, and of how many."""
        return {"done": len(self.done), "total": len(self.images.entries)}

    # labels

    def labels(
        self,
        name: str,
        *,
        others: bool = True,
        crf: bool = False,
        version: int | None = None,
        prior: Labels | None = None,
    ) -> Labels | None:
        """The labels of an image; None where no stroke says anything.

        Args:
            others: learn from the strokes of other images, too.
            crf: refine by the dense CRF.
            version: of the image that is asked for; None: any.
            prior: what a trained model says of it, which its own strokes then correct.

        Raises:
            Outdated: the image has a newer version.
            UserError: an image that cannot be used, or no features.
        """
        self._current, self._busy = name, time.monotonic()
        self._check(name, version)
        spreader = self._loaded()
        photo = self.photo(name)
        spreader.features(photo)  # takes longest, so outside of the lock
        with self._lock:
            self._check(name, version)
            state = self.store.state
            self._remember_all(state, name)
            knowledge = self._knowledge if others else 0
            kept = self._locked(name, state, (photo.shape[0], photo.shape[1]))
            stamp = None if kept is None else hash_array(kept)
            told = None if prior is None else hash_array(prior.label)
            key = (name, state.drawing(name), state.classes, others, crf, knowledge, stamp, told)
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
            found = self._spread(name, photo, state, others, crf, prior)
            if found is None:
                self.sure.pop(name, None)
                return self._results.put(key, None)
            if kept is not None:
                found = with_kept(found, kept, paint_small(state.drawing(name), state.ids, self.ratio(name), photo))
            if prior is None:
                self.sure[name] = found.sure
            return self._results.put(key, found)

    def photo(self, name: str) -> np.ndarray:
        """(h, w, 3) uint8, at most 2048 pixels long. Raises UserError."""
        stamp = self.images.entry(name).stamp
        with self._looking:
            held = self._photos.get((name, stamp))
        if held is None:
            held = self.images.photo(name)
            with self._looking:
                self._photos.put((name, stamp), held)
        return held

    def ratio(self, name: str) -> float:
        """The photo's width by the image's."""
        return self.images.photo_size(name)[1] / self.images.size(name)[1]

    def embedding(self, name: str) -> np.ndarray:
        """(h, w, 3) uint8: the main directions of an image's features as colours. Raises UserError."""
        photo = self.photo(name)
        return main_colours(self._loaded().features(photo)[1], (photo.shape[0], photo.shape[1]))

    def suggest(self, skip: set[str], rng: np.random.Generator) -> tuple[str, float] | None:
        """Of some images outside of `skip`, the least sure by what all strokes say; None where nothing can be said."""
        with self._lock:
            left = [name for name in self.images.entries if name not in skip and name in self.done]
        if self._spreader is None or not left:
            return None
        chosen = [left[index] for index in rng.permutation(len(left))[:CANDIDATES]]
        best: tuple[str, float] | None = None
        for name in chosen:
            try:
                sure = self._rough(name)
            except UserError:
                continue
            if best is None or sure < best[1]:
                best = name, sure
        return best

    def _rough(self, name: str) -> float:
        """The mean margin on the cells of an image. Raises UserError where no stroke says anything."""
        photo = self.photo(name)
        with self._lock:
            self._remember_all(self.store.state)
            _, probability = self._spreader.scores(photo)
        if len(probability) < 2:
            return 1.0
        two = probability.topk(2, dim=0)[0]
        return float((two[0] - two[1]).mean())

    def _spread(
        self, name: str, photo: np.ndarray, state: State, others: bool, crf: bool, prior: Labels | None
    ) -> Labels | None:
        drawing = state.drawing(name)
        slots = {key: slot for key, slot in self._slots.items() if key in state.ids}
        if prior is None and name not in self._taught and not (others and self._taught):
            return None
        small = [scaled(stroke, self.ratio(name)) for stroke in drawing.strokes]
        within = boxes(small, slots, (photo.shape[0], photo.shape[1]))
        said = None if prior is None else planes(prior, [slots[one.key] for one in state.classes])
        found = self._spreader.spread(photo, others=others, within=within, crf=crf, prior=said)  # strokes: remembered
        table = np.full(256, UNLABELLED, np.uint8)
        for key, slot in slots.items():
            table[slot] = state.ids[key]
        return Labels(table[found.label], found.margin)

    def _locked(self, name: str, state: State, size: tuple[int, int]) -> np.ndarray | None:
        """(h, w) uint8: the accepted pixels of locked classes, which keep their class, else 254; None without any."""
        locked = [index for index, one in enumerate(state.classes) if one.locked]
        label = self.accepted(name, state.classes) if locked else None
        return None if label is None else resized(np.where(np.isin(label, locked), label, np.uint8(UNLABELLED)), size)

    def _check(self, name: str, version: int | None) -> None:
        if version is not None and version < self.store.version(name):
            raise Outdated(f"{name}: version {version} is asked for, but {self.store.version(name)} is there")

    # what is remembered

    def _remember_all(self, state: State, first: str | None = None) -> None:
        """Bring what the Spreader knows to what the store holds.

        Of hundreds of images at the start it takes what it can in a moment, and `first` in any case; the thread in the
        background does the rest.
        """
        for key in [key for key in self._slots if key not in state.ids]:
            for name, drawing in list(self._remembered.items()):
                if any(one.key == key for one in drawing.strokes):
                    self._forget(name)
            del self._slots[key]
        for key in state.ids:
            if key not in self._slots:
                self._slots[key] = min(set(range(MAX_CLASSES)) - set(self._slots.values()))
        end = time.monotonic() + BUDGET
        changed = {name for name, drawing in state.drawings.items() if self._is_new(name, drawing)}
        for name in sorted(changed, key=lambda one: one != first):
            if name != first and time.monotonic() > end:
                self._behind = True
                return
            self._remember(name, state.drawing(name))
        self._behind = False

    def _is_new(self, name: str, drawing: Drawing) -> bool:
        held = self._remembered.get(name)
        return bool(drawing.strokes) if held is None else held.strokes is not drawing.strokes

    def _remember(self, name: str, drawing: Drawing) -> None:
        self._forget(name)
        try:
            photo = self.photo(name)
            strokes = self._painted(name, drawing, photo)
        except UserError:  # an image that is gone, or damaged since
            return
        if (strokes < MAX_CLASSES).any():
            self._spreader.remember(photo, strokes, name)
            self._taught.add(name)
            self._knowledge += 1
        self._remembered[name] = drawing

    def _painted(self, name: str, drawing: Drawing, photo: np.ndarray) -> np.ndarray:
        """The strokes in the Spreader's ids. Where strokes have come to those of before, these alone are painted."""
        size, ids = (photo.shape[0], photo.shape[1]), dict(self._slots)
        before = self._paint.get(name)
        onto, new = None, drawing.strokes
        if before is not None and before[1:3] == (ids, size) and drawing.strokes[: len(before[0])] == before[0]:
            onto, new = before[3], drawing.strokes[len(before[0]) :]
        label = paint([scaled(stroke, self.ratio(name)) for stroke in new], ids, size, onto)
        self._paint.put(name, (drawing.strokes, ids, size, label))
        return label

    def _forget(self, name: str) -> None:
        self._remembered.pop(name, None)
        if name in self._taught:
            self._taught.remove(name)
            self._spreader.forget(name)
            self._knowledge += 1

    # ahead of the user

    def _loaded(self) -> Any:
        self._ready.wait()
        if self.error is not None:
            raise UserError(self.error)
        return self._spreader

    def _run(self) -> None:
        try:
            self._spreader = spml.Spreader(self.source, cache=self.cache)  # imports torch, which takes seconds
        except UserError as error:
            self.error = str(error)
        except Exception as error:  # whatever a broken installation raises: the page says it, strokes go on
            self.error = f"{type(error).__name__}: {error}".splitlines()[0]
        self._ready.set()
        if self.error is not None:
            self.publish("message", {"text": self.error})
            return
        while not self._stop.is_set():
            if self._behind:
                self._catch_up()
                continue
            name = self._next()
            if name is None:
                self._stop.wait(PATIENCE)
                continue
            try:
                self._spreader.features(self.images.photo(name))
            except Exception as error:  # this thread must live on; of a UserError the page lists what is wrong
                if not isinstance(error, UserError):
                    self.publish("message", {"text": f"{name}: {type(error).__name__}: {error}"[:300]})
            self.done.add(name)
            self.publish("features", self.progress)

    def _catch_up(self) -> None:
        """Remember some more images, and tell the pages once all are."""
        with self._lock:
            before = self._knowledge
            self._remember_all(self.store.state)
            done = not self._behind and self._knowledge > before
        if done:
            content = {"images": None, "classes": False, "seq": self.store.seq, "client": NOBODY}
            self.publish("changed", content)

    def _next(self) -> str | None:
        """The next image without features, from the one that the user looks at; None while a request is recent."""
        if time.monotonic() - self._busy < PATIENCE:
            return None
        names = list(self.images.entries)
        start = names.index(self._current) if self._current in self.images.entries else 0
        return next((name for name in [*names[start:], *names[:start]] if name not in self.done), None)
