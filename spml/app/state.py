"""What a sitting has made: classes, strokes and tags, and what each edit does to them. No files, no locks."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from spml.app.strokes import Stroke, read_stroke, read_word, short
from spml.classes import MAX_CLASSES, means_background
from spml.errors import UserError

COLOUR = re.compile(r"#[0-9a-f]{6}")
MAX_STROKES = 10_000  # of one image
MAX_NAME = 100  # characters of a class name


@dataclass(frozen=True)
class Class:
    """A class; its id is its place in the list."""

    key: str  # never used again
    name: str
    color: str  # "#rrggbb"
    locked: bool = False

    def as_json(self, index: int) -> dict[str, Any]:
        """What a page gets."""
        return {"key": self.key, "id": index, "name": self.name, "color": self.color, "locked": self.locked}


@dataclass(frozen=True)
class Drawing:
    """What a user has drawn on one image."""

    strokes: tuple[Stroke, ...] = ()
    tags: tuple[str, ...] = ()  # keys


@dataclass
class State:
    """Classes and drawings; a copy shares what is not changed."""

    classes: tuple[Class, ...] = ()
    drawings: dict[str, Drawing] = field(default_factory=dict)

    @property
    def ids(self) -> dict[str, int]:
        """Key to class id."""
        return {one.key: index for index, one in enumerate(self.classes)}

    @property
    def background(self) -> int | None:
        """0 where the name of class 0 says that it is no object."""
        return 0 if self.classes and means_background(self.classes[0].name) else None

    def drawing(self, image: str) -> Drawing:
        """Of an image; empty where nothing was drawn."""
        return self.drawings.get(image, Drawing())

    def uses(self, key: str) -> tuple[int, int]:
        """How many strokes of a class there are, and on how many images."""
        counts = [sum(one.key == key for one in drawing.strokes) for drawing in self.drawings.values()]
        return sum(counts), sum(count > 0 for count in counts)


class BadEdit(UserError):
    """An edit that cannot be done. `index`: its place in the request."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


class Draft:
    """A state with edits on it, which its owner takes over or drops as a whole.

    Attributes:
        before: what images had that are changed, by name.
        classes_before: None where no class is changed.
        what: the edits in words.
    """

    def __init__(self, state: State) -> None:
        self.state = State(state.classes, dict(state.drawings))
        self.before: dict[str, Drawing] = {}
        self.classes_before: tuple[Class, ...] | None = None
        self.what: list[str] = []

    def edit(self, op: Mapping[str, Any], known: Any) -> None:
        """Do one edit.

        Args:
            known: called with an image's name, says whether it is there.

        Raises:
            UserError: an edit that cannot be done.
        """
        kind = op.get("op") if isinstance(op, Mapping) else None
        if not isinstance(kind, str) or kind not in EDITS:
            raise UserError(f"edit: expected op to be one of {', '.join(EDITS)}, got {short(kind)}")
        if kind in ("stroke", "remove", "tags"):
            image = op.get("image")
            if not isinstance(image, str) or not known(image):
                raise UserError(f"edit: expected an image of the folder, got {short(image)}")
        EDITS[kind](self, op)

    def set_drawing(self, image: str, drawing: Drawing) -> None:
        """Replace what an image has."""
        old = self.state.drawing(image)
        if drawing != old:
            self.before.setdefault(image, old)
            self.state.drawings[image] = drawing

    def set_classes(self, classes: tuple[Class, ...]) -> None:
        """Replace the list of classes."""
        if classes != self.state.classes:
            if self.classes_before is None:
                self.classes_before = self.state.classes
            self.state.classes = classes

    def find(self, key: Any) -> tuple[int, Class]:
        """Place and class of a key. Raises UserError."""
        for index, one in enumerate(self.state.classes):
            if one.key == key:
                return index, one
        raise UserError(f"edit: expected the key of a class, got {short(key)}")

    @property
    def changed(self) -> bool:
        return bool(self.before) or self.classes_before is not None


def _stroke(draft: Draft, op: Mapping[str, Any]) -> None:
    stroke, image = read_stroke(op.get("stroke")), str(op["image"])
    if stroke.key is not None and draft.find(stroke.key)[1].locked:
        raise UserError(f"{draft.find(stroke.key)[1].name}: this class is locked: unlock it to draw with it")
    drawing = draft.state.drawing(image)
    if any(one.id == stroke.id for one in drawing.strokes):
        return  # sent once more, as its answer was lost
    if len(drawing.strokes) >= MAX_STROKES:
        raise UserError(f"{image}: expected at most {MAX_STROKES} strokes on an image")
    draft.set_drawing(image, replace(drawing, strokes=(*drawing.strokes, stroke)))
    draft.what.append(f"{stroke.kind} on {image}")


def _remove(draft: Draft, op: Mapping[str, Any]) -> None:
    image, key = str(op["image"]), read_word(op.get("id"), "id of a stroke")
    drawing = draft.state.drawing(image)
    draft.set_drawing(image, replace(drawing, strokes=tuple(one for one in drawing.strokes if one.id != key)))
    draft.what.append(f"stroke removed from {image}")


def _tags(draft: Draft, op: Mapping[str, Any]) -> None:
    tags, image = op.get("tags"), str(op["image"])
    if not isinstance(tags, list) or len(tags) > MAX_CLASSES:
        raise UserError(f"edit: expected tags to be a list of keys, got {short(tags)}")
    keys = {draft.find(key)[1].key for key in tags}
    ordered = tuple(one.key for one in draft.state.classes if one.key in keys)
    draft.set_drawing(image, replace(draft.state.drawing(image), tags=ordered))
    draft.what.append(f"tags of {image}")


def _class_add(draft: Draft, op: Mapping[str, Any]) -> None:
    key, name = read_word(op.get("key"), "key of a class"), read_name(op.get("name"))
    if any(one.key == key and one.name == name for one in draft.state.classes):
        return  # sent once more
    if any(one.key == key for one in draft.state.classes):
        raise UserError(f"edit: expected a new key, got {short(key)}, which another class has")
    if len(draft.state.classes) >= MAX_CLASSES:
        raise UserError(f"edit: expected at most {MAX_CLASSES} classes")
    _check_free(draft, name, None)
    one = Class(key, name, read_colour(op.get("color")), _flag(op.get("locked", False)))
    draft.set_classes((*draft.state.classes, one))
    draft.what.append(f"class {name}")


def _class_edit(draft: Draft, op: Mapping[str, Any]) -> None:
    index, one = draft.find(op.get("key"))
    if "name" in op:
        name = read_name(op["name"])
        _check_free(draft, name, one.key)
        one = replace(one, name=name)
    if "color" in op:
        one = replace(one, color=read_colour(op["color"]))
    if "locked" in op:
        one = replace(one, locked=_flag(op["locked"]))
    classes = draft.state.classes
    draft.set_classes((*classes[:index], one, *classes[index + 1 :]))
    draft.what.append(f"class {one.name}")


def _class_delete(draft: Draft, op: Mapping[str, Any]) -> None:
    _, gone = draft.find(op.get("key"))
    if gone.locked:
        raise UserError(f"{gone.name}: this class is locked: unlock it to delete it")
    draft.set_classes(tuple(one for one in draft.state.classes if one.key != gone.key))
    for image, drawing in _using(draft.state, gone.key):
        strokes = tuple(one for one in drawing.strokes if one.key != gone.key)
        draft.set_drawing(image, Drawing(strokes, tuple(key for key in drawing.tags if key != gone.key)))
    draft.what.append(f"class {gone.name} deleted")


def _using(state: State, key: str) -> Iterator[tuple[str, Drawing]]:
    for image, drawing in list(state.drawings.items()):
        if key in drawing.tags or any(one.key == key for one in drawing.strokes):
            yield image, drawing


def _replace(draft: Draft, op: Mapping[str, Any]) -> None:
    """All of an image at once: what another program wrote into the folder. No page sends it."""
    image = str(op["image"])
    strokes = tuple(read_stroke(one) for one in op["strokes"])
    draft.set_drawing(image, Drawing(strokes, tuple(draft.find(key)[1].key for key in op["tags"])))
    draft.what.append(f"files of {image}")


EDITS = {
    "stroke": _stroke,
    "remove": _remove,
    "tags": _tags,
    "class_add": _class_add,
    "class_edit": _class_edit,
    "class_delete": _class_delete,
    "replace": _replace,
}
FOR_PAGES = tuple(name for name in EDITS if name != "replace")


def read_name(value: Any) -> str:
    """The name of a class, one line of a text file. Raises UserError."""
    name = value.strip() if isinstance(value, str) else ""
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise UserError(f"class: expected a name of 1 to {MAX_NAME} printable characters, got {short(value)}")
    return name


def read_colour(value: Any) -> str:
    """`#rrggbb`. Raises UserError."""
    if not isinstance(value, str) or not COLOUR.fullmatch(value.lower()):
        raise UserError(f"class: expected a color #rrggbb, got {short(value)}")
    return value.lower()


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"class: expected locked to be true or false, got {short(value)}")
    return value


def _check_free(draft: Draft, name: str, own: str | None) -> None:
    if any(one.name == name and one.key != own for one in draft.state.classes):
        raise UserError(f"class: expected a name that no other class has, got {short(name)}")
