"""Keeps the folder one that the command line takes: strokes, weak labels, accepted labels, classes and lists as files.

They follow the journal, shortly after an edit, each written in one step. What other programs change in them while no
studio runs comes back as an edit.
"""

import io
import json
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from spml.app.images import Entry, Images, Missing
from spml.app.labels import palette, read_label, write_label
from spml.app.state import Class, Drawing, State
from spml.app.store import Store
from spml.app.strokes import paint, shape_of
from spml.classes import MAX_CLASSES
from spml.data.lists import list_content
from spml.data.raster import box_pixels
from spml.errors import UserError
from spml.files import read_json, remove_stale, write_atomically, write_json
from spml.records import hash_json

KINDS_OF_LISTS = ("images", "scribble", "point", "box", "mask", "tag")
DELAY = 0.3  # seconds after an edit
OWN_CLASSES, KEPT_HASHES = ".studio/classes.json", 100
ACCEPTED = ".studio/accepted"  # labels that do not lose a class when it is deleted, as undo may bring it back


class Files:
    """The files of a folder that follow from its store.

    Args:
        images: of the folder.
        store: its edits.
    """

    def __init__(self, images: Images, store: Store) -> None:
        self.images, self.store, self.folder = images, store, images.folder
        self.notes: list[str] = []  # what could not be written, for the page
        self._dirty: set[str] = set()
        self._noting = threading.Lock()  # of these names
        self._classes: tuple[Class, ...] | None = None  # as the files have them
        self._wake, self._stop, self.writing = threading.Event(), threading.Event(), threading.RLock()
        self._thread = threading.Thread(target=self._run, name="files", daemon=True)
        for kind in ("strokes", "weak", "labels", "lists"):
            remove_stale(self.folder / kind)

    def start(self) -> None:
        """Begin to write what is not on disk yet."""
        self._dirty = {name for name in self.store.state.drawings if not self._is_written(name)}
        self._wake.set()
        self._thread.start()

    def touch(self, names: Iterable[str]) -> None:
        """Write the files of these images, soon."""
        with self._noting:
            self._dirty.update(names)
        self._wake.set()

    def flush(self) -> None:
        """Write everything now."""
        with self.writing:
            self._write()

    def close(self) -> None:
        """Write everything and end the thread."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._stop.wait(DELAY)  # more strokes of one movement come at once
            self._wake.clear()
            try:
                self.flush()
            except Exception as error:  # this thread must live on: the next edit tries again
                self.notes = [f"cannot write the folder's files: {type(error).__name__}: {error}"]

    def _write(self) -> None:
        with self._noting:
            names, self._dirty = self._dirty, set()
        state = self.store.state  # holds at least what was noted
        notes = []
        if state.classes != self._classes:
            names = names | set(state.drawings)
            notes += self._try(lambda: self._write_classes(state))
        for name in sorted(names):
            notes += self._try(partial(self._write_image, name, state))
        notes += self._try(lambda: self._write_lists(state))
        self.notes = notes

    def _try(self, write: Any) -> list[str]:
        try:
            write()
        except Missing:  # an image that is gone keeps its strokes, in the journal
            return []
        except UserError as error:
            return [str(error)]
        return []

    def _write_classes(self, state: State) -> None:
        """The names, and the accepted labels in the ids of today."""
        content = "".join(f"{one.name}\n" for one in state.classes)
        if state.classes or (self.folder / "classes.txt").is_file():
            hashes = [one for one in self.own_classes() if one != hash_json(content)]
            write_json(self.folder / OWN_CLASSES, [*hashes, hash_json(content)][-KEPT_HASHES:])
            write_atomically(self.folder / "classes.txt", lambda file: file.write(content.encode()))
        for path in sorted((self.folder / ACCEPTED).rglob("*.png")):
            label = read_label(path, state.classes)
            assert label is not None
            write_label(self.folder / "labels" / path.relative_to(self.folder / ACCEPTED), label, state.classes)
        self._classes = state.classes

    def own_classes(self) -> list[str]:
        """Hashes of what this program wrote into classes.txt, so that an old file is not taken for a user's."""
        try:
            return [str(one) for one in read_json(self.folder / OWN_CLASSES)]
        except (UserError, TypeError):
            return []

    def _write_image(self, name: str, state: State) -> None:
        """Weak labels, then strokes, whose version says that both are there."""
        drawing, stem = state.drawing(name), self.images.entry(name).stem
        height, width = self.images.size(name)
        label = paint(drawing.strokes, state.ids, (height, width))
        weak = self.folder / "weak" / f"{stem}.png"
        if (label < MAX_CLASSES).any():
            picture = Image.fromarray(label)
            picture.putpalette(palette(state.classes).tobytes())
            buffer = io.BytesIO()
            picture.save(buffer, "PNG")
            write_atomically(weak, lambda file: file.write(buffer.getvalue()))
        else:
            weak.unlink(missing_ok=True)
        path = self.folder / "strokes" / f"{stem}.json"
        if drawing == Drawing():
            path.unlink(missing_ok=True)
            return
        content = {"image": name, "width": width, "height": height, **drawn(drawing, state)}
        content |= {"version": self.store.version(name), "digest": digest_of(content)}
        text = json.dumps(content) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))

    def _is_written(self, name: str) -> bool:
        """Whether the files of an image say what the store says."""
        if not self.images.known(name):
            return True
        path = self.folder / "strokes" / f"{self.images.entry(name).stem}.json"
        if not path.is_file():
            return self.store.state.drawing(name) == Drawing()
        try:
            content = read_json(path)
        except UserError:
            return False
        return isinstance(content, dict) and content.get("digest") == digest_of(
            {**content, **drawn(self.store.state.drawing(name), self.store.state)}
        )

    def _write_lists(self, state: State) -> None:
        """The lists that `spml run KIND` takes, tags.txt and boxes.json; see spml.data.formats.folder."""
        entries = [entry for entry in self.images.entries.values() if entry.error is None]
        rows: dict[str, list[list[str]]] = {kind: [] for kind in KINDS_OF_LISTS}
        tags, boxes = list[str](), dict[str, list[dict[str, int]]]()
        for entry in entries:
            drawing = state.drawing(entry.name)
            for kind, row in self._rows(entry, drawing).items():
                rows[kind].append(row)
            found = tags_of(drawing, state)
            stem = entry.stem.rsplit("/")[-1]
            if found and len(stem.split()) == 1:  # words are separated by spaces there
                rows["tag"].append([entry.name])
                tags.append(f"{stem} {' '.join(map(str, found))}\n")
            if any(stroke.kind == "box" for stroke in drawing.strokes):
                boxes[stem] = boxes_of(drawing, state, self.images.size(entry.name))
        for kind, listed in rows.items():
            self._write_text(f"lists/{kind}.txt", list_content(f"lists/{kind}.txt", listed))
        self._write_text("tags.txt", "".join(tags))
        self._write_text("boxes.json", json.dumps(boxes) + "\n" if boxes else "")

    def _rows(self, entry: Entry, drawing: Drawing) -> dict[str, list[str]]:
        """The lists that an image belongs to, and its line in each: weak labels of any kind are scribbles, too."""
        weak, labels = f"weak/{entry.stem}.png", f"labels/{entry.stem}.png"
        found = {"images": [entry.name]}
        if drawing.strokes and (self.folder / weak).is_file():
            kinds = {stroke.kind for stroke in drawing.strokes} & {"point", "box"}
            found |= {kind: [entry.name, weak] for kind in ("scribble", *sorted(kinds))}
        if (self.folder / labels).is_file():
            found["mask"] = [entry.name, labels]
        return found

    def _write_text(self, name: str, text: str) -> None:
        """Write a list where it is not what it was; remove it where it is empty."""
        path = self.folder / name
        if not text:
            path.unlink(missing_ok=True)
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, lambda file: file.write(text.encode()))

    # accepted labels

    def accepted(self, name: str, classes: Sequence[Class]) -> np.ndarray | None:
        """(H, W) uint8 in ids of `classes`; None where no labels are accepted. Raises UserError."""
        return read_label(self.folder / ACCEPTED / f"{self.images.entry(name).stem}.png", classes)

    def is_accepted(self, name: str) -> bool:
        """Whether an image has accepted labels."""
        return (self.folder / ACCEPTED / f"{self.images.entry(name).stem}.png").is_file()

    def accept(self, name: str, label: np.ndarray, classes: Sequence[Class]) -> None:
        """Take labels (H, W) as those of an image."""
        stem = self.images.entry(name).stem
        with self.writing:
            write_label(self.folder / ACCEPTED / f"{stem}.png", label, classes)
            write_label(self.folder / "labels" / f"{stem}.png", label, classes)
        self._wake.set()

    def take_back(self, name: str) -> None:
        """Forget the accepted labels of an image."""
        stem = self.images.entry(name).stem
        with self.writing:
            for folder in ("labels", ACCEPTED):  # in this order: a kill in between leaves the labels accepted
                (self.folder / folder / f"{stem}.png").unlink(missing_ok=True)
        self._wake.set()


def tags_of(drawing: Drawing, state: State) -> list[int]:
    """The classes that an image is known to show, ascending, without the background."""
    keys = {*drawing.tags, *(stroke.key for stroke in drawing.strokes)}
    return sorted({state.ids[key] for key in keys if key in state.ids} - {state.background})


def boxes_of(drawing: Drawing, state: State, size: tuple[int, int]) -> list[dict[str, int]]:
    """The boxes of an image of (H, W), as boxes.json has them."""
    found = []
    for stroke in drawing.strokes:
        if stroke.kind == "box" and stroke.key is not None and state.ids[stroke.key] != state.background:
            x0, y0, x1, y1 = box_pixels(shape_of(stroke), size)
            if x0 < x1 and y0 < y1:
                found.append({"class": state.ids[stroke.key], "x0": x0, "y0": y0, "x1": x1, "y1": y1})
    return found


def drawn(drawing: Drawing, state: State) -> dict[str, Any]:
    classes = [one.as_json(index) for index, one in enumerate(state.classes)]
    strokes = [stroke.as_json() for stroke in drawing.strokes]
    return {"classes": classes, "strokes": strokes, "tags": list(drawing.tags)}


def digest_of(content: dict[str, Any]) -> str:
    """Of what a file says; a file with another digest was written by another program."""
    return hash_json([content.get("classes"), content.get("strokes"), content.get("tags")])
