"""One opened folder: its images, its store, its files, what spreads and what trains, and the lock that guards it."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import spml
from spml.app.adopt import add_classes, adopt
from spml.app.files import Files
from spml.app.images import Images
from spml.app.labels import resized
from spml.app.layers import Labels
from spml.app.spreading import Spreading
from spml.app.store import NOBODY, Change, Store
from spml.app.strokes import paint, short
from spml.app.training import Training
from spml.classes import MAX_CLASSES
from spml.data.oversegment import METHODS, load_method
from spml.data.samples import read_label
from spml.errors import UserError
from spml.files import write_atomically
from spml.records import hash_array

HOME = ".studio"
SOURCE = "package:efficientnet_lite0"


class Studio:
    """A folder that is worked on.

    Args:
        folder: with images.
        source: of the features, as Spreader takes it.
        classes: names that the folder has not yet.
        publish: called with the name of an event and its content, in any thread.

    Raises:
        UserError: no such folder, one that another studio has open, or a journal that cannot be read.
    """

    def __init__(
        self,
        folder: str | Path,
        source: Any = SOURCE,
        classes: Sequence[str] = (),
        publish: Callable[[str, dict[str, Any]], None] = lambda name, content: None,
    ) -> None:
        self.images = Images(folder)
        self.home = self.images.folder / HOME
        self.lock = lock_folder(self.home / "lock")
        for left in self.home.glob("*.zip"):  # of an export that was killed
            left.unlink(missing_ok=True)
        self.store = Store(self.home / "journal", self.images.known)
        self.files = Files(self.images, self.store)
        self.source, self.publish = source, publish
        named = str(source) if isinstance(source, str | Path) else type(source).__name__
        cache = self.home / "features" / "".join(c if c.isalnum() else "_" for c in named)[-80:]
        self.spreading = Spreading(self.images, self.store, source, cache, publish, self.files.accepted)
        self.training = Training(self.images, self.store, self.files, publish)
        first = not self.store.seq
        self.problems = adopt(self.files)
        self._add(classes)
        if first and self.store.seq:
            self.store.begin_here()
        self._random = np.random.default_rng()
        self._closing = threading.Lock()

    def _add(self, names: Sequence[str]) -> None:
        edits = add_classes(names, self.store.state.classes)
        if edits:
            self.store.apply(NOBODY, edits)

    def start(self) -> None:
        """Begin the work in the background."""
        self.files.start()
        self.spreading.start()
        self.training.start()

    def close(self) -> None:
        """Write everything, end the work in the background, free the folder."""
        with self._closing:
            if self.lock is None:
                return
            self.files.close()  # first: who is in a hurry presses Ctrl-C twice
            self.training.close()
            self.spreading.close()
            self.store.close()
            self.lock.close()
            self.lock = None

    # what a page sees

    def overview(self) -> dict[str, Any]:
        """The content of /api/state."""
        state = self.store.state
        return {
            "folder": self.images.folder.name,
            "path": str(self.images.folder),
            "classes": [one.as_json(index) for index, one in enumerate(state.classes)],
            "background": state.background,
            "total": len(self.images.refresh()),
            "source": str(self.source) if isinstance(self.source, str | Path) else "a model",
            "source_error": self.spreading.error,
            "features": self.spreading.progress,
            "train": self.training.state(),
            "undo": len(self.store.done),
            "redo": len(self.store.undone),
            "seq": self.store.seq,
            "notes": [*self.problems, *self.files.notes],
        }

    def listing(self, start: int, count: int, order: str, find: str | None = None) -> dict[str, Any]:
        """The content of /api/images. `find`: a name whose place in this order is wanted."""
        names = list(self.images.refresh())
        sure = self.sure()
        if order == "sure":
            names.sort(key=lambda name: sure.get(name, 2.0))
        elif order == "unlabelled":
            names.sort(key=lambda name: (self.files.is_accepted(name), bool(self.store.state.drawing(name).strokes)))
        found = {"total": len(names), "images": [self._row(name, sure) for name in names[start : start + count]]}
        return found if find is None else {**found, "index": names.index(find) if find in names else None}

    def sure(self) -> dict[str, float]:
        """How sure the labels of images are, by name: of strokes on them, of the trained model, of others' strokes."""
        model, drawings = self.training.sure(), self.store.state.drawings
        own = {name: sure for name, sure in self.spreading.sure.items() if name in drawings and drawings[name].strokes}
        return {**self.spreading.sure, **model, **own}

    def labelled(self, name: str) -> str:
        """What labels an image has: accepted, spread, predicted or none."""
        if self.files.is_accepted(name):
            return "accepted"
        predicted = self.training.has_prediction(name)
        if name in self.spreading.sure and (self.store.state.drawing(name).strokes or not predicted):
            return "spread"
        return "predicted" if predicted else "none"

    def _row(self, name: str, sure: dict[str, float]) -> dict[str, Any]:
        drawing, error = self.store.state.drawing(name), self.images.error(name)
        height, width = (0, 0) if error else self.images.size(name)
        return {
            "name": name,
            "width": width,
            "height": height,
            "strokes": len(drawing.strokes),
            "tags": list(drawing.tags),
            "labels": self.labelled(name),
            "sure": sure.get(name),
            "version": self.store.version(name),
            "error": error,
        }

    # edits

    def edit(self, client: Any, edits: Any, since: Any = None) -> Change:
        """Edits of a page. Raises UserError."""
        if isinstance(client, str) and client == NOBODY:
            raise UserError(f"client: expected a name of its own, got {short(client)}")
        return self._tell(client, self.store.apply(client, edits, since))

    def undo(self, client: Any) -> Change:
        """Raises UserError."""
        return self._tell(client, self.store.undo(client))

    def redo(self, client: Any) -> Change:
        """Raises UserError."""
        return self._tell(client, self.store.redo(client))

    def _tell(self, client: str, change: Change) -> Change:
        if change.images or change.classes:
            self.files.touch(change.images)
            content = {"images": list(change.images), "classes": change.classes, "seq": change.seq, "client": client}
            self.publish("changed", content)
        return change

    def take_over(self) -> list[str]:
        """Take over what another program wrote into the folder. Returns what could not be read."""
        self.images.refresh(0)
        self.problems = adopt(self.files)
        self.publish("changed", {"images": None, "classes": True, "seq": self.store.seq, "client": NOBODY})
        return self.problems

    # labels

    def labels(
        self, name: str, source: str = "spread", others: bool = True, crf: bool = False, version: int | None = None
    ) -> Labels | None:
        """Labels of an image at its photo's size; None where there are none.

        Args:
            source: spread, prediction or accepted.

        Raises:
            UserError: an image that cannot be used, another source, or a version that is outdated.
        """
        if source == "spread":
            return self.spreading.labels(name, others=others, crf=crf, version=version)
        size = self.images.photo_size(name)
        if source == "prediction":
            return self._predicted(name, size, others, crf, version)
        if source != "accepted":
            raise UserError(f"from: expected spread, prediction or accepted, got {short(source)}")
        label = self.files.accepted(name, self.store.state.classes)
        if label is None:
            return None
        return Labels(resized(label, size), np.ones(size, np.float32))

    def _predicted(
        self, name: str, size: tuple[int, int], others: bool, crf: bool, version: int | None
    ) -> Labels | None:
        """What the trained model says, corrected by the image's own strokes where there are features."""
        found = self.training.prediction(name, size)
        if found is None or self.spreading.error or not (crf or self.store.state.drawing(name).strokes):
            return found
        return self.spreading.labels(name, others=others, crf=crf, version=version, prior=found)

    def accept(self, name: str, source: str, others: bool, crf: bool) -> None:
        """Make the labels of an image its pseudo labels. Raises UserError where there are none."""
        found = self.labels(name, source, others, crf)
        if found is None:
            raise UserError(f"{name}: no labels to accept: expected at least one stroke")
        state, size = self.store.state, self.images.size(name)
        said = paint(state.drawing(name).strokes, state.ids, size)
        label = np.where(said < MAX_CLASSES, said, resized(found.label, size)).astype(np.uint8)
        self.files.accept(name, label, state.classes)
        self._tell_labels(name)

    def take_back(self, name: str) -> None:
        """Forget the accepted labels of an image."""
        self.files.take_back(name)
        self._tell_labels(name)

    def regions(self, name: str) -> np.ndarray:
        """(h, w) uint8: an over-segmentation of the photo, kept on disk. Raises UserError."""
        photo = self.spreading.photo(name)
        path = self.home / "regions" / f"{hash_array(photo)}.png"
        if path.is_file():
            return read_label(path)
        label = spml.oversegment(photo, best_method())
        write_atomically(path, lambda file: Image.fromarray(label).save(file, "PNG"))
        return label

    def _tell_labels(self, name: str) -> None:
        content = {"images": [name], "classes": False, "seq": self.store.seq, "client": NOBODY}
        self.publish("changed", content)

    def suggest(self) -> dict[str, Any]:
        """The image to label next: {name, why}; name None where there is none."""
        drawn = {name for name, drawing in self.store.state.drawings.items() if drawing.strokes}
        finished = {name for name in self.images.entries if name in drawn or self.files.is_accepted(name)}
        predicted = {name: sure for name, sure in self.training.sure().items() if name not in finished}
        if predicted:
            name = min(predicted, key=lambda one: predicted[one])
            return {"name": name, "why": f"the trained model is least sure here: {100 * predicted[name]:.0f} %"}
        found = self.spreading.suggest(finished, self._random)
        if found is not None:
            return {"name": found[0], "why": f"the strokes so far say least here: {100 * found[1]:.0f} % sure"}
        left = [name for name in self.images.entries if name not in finished and self.images.error(name) is None]
        return {"name": left[0] if left else None, "why": "no strokes yet" if left else "every image has strokes"}

    def change_of(self, change: Change) -> dict[str, Any]:
        """A change as an answer."""
        content = asdict(change)
        content["changed"] = list(content.pop("images"))
        content["versions"] = {name: self.store.version(name) for name in change.images}
        content |= {"undo": len(self.store.done), "redo": len(self.store.undone)}
        return content


def best_method() -> str:
    """The first method of over-segmentation that is installed. Raises UserError where none is."""
    for name in METHODS:
        try:
            load_method(name)
        except UserError:
            continue
        return name
    load_method(next(iter(METHODS)))
    raise AssertionError("load_method says what to install")


def lock_folder(path: Path) -> Any:
    """A file that only one process holds. Raises UserError where another does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows; two studios on one folder must then not be started
        pass
    except OSError:
        file.close()
        raise UserError(f"{path.parent.parent}: another studio has this folder open") from None
    os.set_inheritable(file.fileno(), False)
    return file
