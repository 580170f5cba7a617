"""Takes over what other programs wrote into the folder: classes, strokes and accepted labels, as edits of the store."""

from collections.abc import Iterable, Sequence
from typing import Any

from spml.app.files import Files, digest_of
from spml.app.labels import foreign_label
from spml.app.state import Class, read_name
from spml.app.store import MAX_EDITS, NOBODY
from spml.app.strokes import read_stroke, short
from spml.classes import MAX_CLASSES, read_class_names
from spml.errors import UserError
from spml.files import read_json
from spml.records import hash_json
from spml.visualize.palette import class_palette

Edits = list[dict[str, Any]]
COLOURS = (  # as static/classes.js has them
    *("#8d99ae", "#e4572e", "#3fa7d6", "#59c36a", "#f5b700", "#b56ce0", "#ff7aa2", "#17b8a6", "#a1622f", "#5b6cff"),
    *("#c2d64a", "#ff9f5a", "#2f7f5f", "#d63a6a", "#79d2e6", "#7a5c99", "#f0d9a0", "#4f6d7a", "#c94fc0", "#98d8a0"),
)


def adopt(files: Files) -> list[str]:
    """Bring the store of a folder to what other programs wrote there. Returns what could not be read.

    Files that the studio wrote itself carry a hash of what they say, and are left alone: the journal is the truth.
    Where it is empty, as in a copy of a folder, they are taken over, too.
    """
    first = not files.store.seq
    problems, edits, store = list[str](), Edits(), files.store
    try:
        edits += _classes(files)
    except UserError as error:
        problems.append(str(error))
    keys = {one.name: one.key for one in store.state.classes} | {op["name"]: op["key"] for op in edits}
    for name, entry in files.images.entries.items():
        path = files.folder / "strokes" / f"{entry.stem}.json"
        if path.is_file() and entry.error is None:
            try:
                edits += _strokes(name, read_json(path, "strokes"), keys, first)
            except UserError as error:
                problems.append(f"{path}: {error}")
    for start in range(0, len(edits), MAX_EDITS):
        change = store.apply(NOBODY, edits[start : start + MAX_EDITS])
        files.touch(change.images)
    return problems + _labels(files, first)


def _classes(files: Files) -> Edits:
    """Names in classes.txt that no class has."""
    path, held = files.folder / "classes.txt", files.store.state.classes
    if not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return add_classes(read_class_names(path), held)  # says what is wrong
    if files.store.seq and hash_json(text) in files.own_classes():  # from before the last edits, which no file has yet
        return []
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    return add_classes(read_class_names(path) if len(names) > 1 else names, held)


def _strokes(name: str, content: Any, keys: dict[str, str], own_too: bool) -> Edits:
    """The edits that make a foreign file the truth of an image.

    Classes stand there by the key that the file's own `classes` gives a name, by our key, or by name.

    Args:
        keys: name of a class to its key; names that the file adds are added.
    """
    if not isinstance(content, dict) or not isinstance(content.get("strokes"), list):
        raise UserError("expected an object with strokes")
    if content.get("digest") == digest_of(content) and not own_too:
        return []
    listed = content.get("classes")
    own = {one["key"]: one.get("name") for one in listed if isinstance(one, dict) and "key" in one} if listed else {}
    edits = Edits()

    def key_of(word: Any) -> str:
        """The key of a class by name or by key of another folder; an unknown name becomes a class."""
        found = own.get(word, word) if isinstance(word, str) else word
        if found not in keys and found in keys.values():
            return str(found)
        named = read_name(found)
        if named not in keys:
            edits.extend(add_classes([named], (), len(keys), set(keys.values())))
            keys[named] = edits[-1]["key"]
        return keys[named]

    strokes = []
    for number, stroke in enumerate(content["strokes"]):
        if not isinstance(stroke, dict):
            raise UserError(f"expected a stroke to be an object, got {short(stroke)}")
        one = {"id": f"{hash_json(name)[:8]}-{number}", **stroke}
        if one.get("class") is not None:
            one["class"] = key_of(one["class"])
        strokes.append(read_stroke(one).as_json())
    tags = content.get("tags")
    tags = [key_of(tag) for tag in tags] if isinstance(tags, list) else []
    return [*edits, {"op": "replace", "image": name, "strokes": strokes, "tags": tags}]


def _labels(files: Files, own_too: bool) -> list[str]:
    problems = []
    for entry in files.images.entries.values():
        path = files.folder / "labels" / f"{entry.stem}.png"
        if not path.is_file() or entry.error is not None:
            continue
        try:
            label, size = foreign_label(path, own_too), files.images.size(entry.name)
            if label is not None and label.shape == size:
                files.accept(entry.name, label, files.store.state.classes)
            elif label is not None:
                problems.append(f"{path}: expected {size[1]} x {size[0]} pixels as the image, got other labels")
        except UserError as error:
            problems.append(str(error))
    return problems


def add_classes(
    names: Iterable[str], held: Sequence[Class], start: int | None = None, taken: Iterable[str] = ()
) -> Edits:
    """Edits that add classes by name, each once, with the page's colours.

    Args:
        held: the classes that are there, which are not added again.
        start: id of the first one; None: behind those held.
        taken: more keys that are in use.
    """
    have, keys = {one.name for one in held}, {one.key for one in held} | set(taken)
    edits = Edits()
    for name in map(read_name, names):
        if name in have:
            continue
        base, number = hash_json(name)[:8], 0
        while (key := f"{base}-{number}" if number else base) in keys:
            number += 1
        have.add(name)
        keys.add(key)
        index = (len(held) if start is None else start) + len(edits)
        edits.append({"op": "class_add", "key": key, "name": name, "color": colour_of(index)})
    return edits


def colour_of(index: int) -> str:
    """The colour that a class begins with: the page's, grey for the first, mostly the background; then VOC's."""
    if index < len(COLOURS):
        return COLOURS[index]
    red, green, blue = (int(value) for value in class_palette()[index % MAX_CLASSES])
    return f"#{red:02x}{green:02x}{blue:02x}"
