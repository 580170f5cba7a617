"""The store of a sitting: every edit in the journal before it is confirmed, undo and redo over all of them.

The journal alone is the truth. Starting again plays it from its first line; undo and redo are lines, too. When it has
grown, it is written anew: the state before the oldest edit that can be undone, and the edits since.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spml.app.journal import Journal
from spml.app.state import FOR_PAGES, BadEdit, Class, Draft, Drawing, State
from spml.app.strokes import read_stroke, read_word, short
from spml.errors import UserError

UNDO_DEPTH = 5_000  # edits that can be undone
SPARE_LINES = 2_000  # lines without use that start a compaction
MAX_EDITS = 1_000  # in one request
NOBODY = "folder"  # the client of edits that other programs made


@dataclass
class Step:
    """One request that can be undone."""

    line: dict[str, Any]  # as in the journal
    before: dict[str, Drawing]
    after: dict[str, Drawing]
    classes: tuple[tuple[Class, ...], tuple[Class, ...]] | None  # before and after
    what: str


@dataclass(frozen=True)
class Change:
    """What a request did."""

    seq: int
    images: tuple[str, ...]  # that are not what they were
    classes: bool
    others: tuple[str, ...] = ()  # of those in the request, what another client had changed meanwhile
    what: str = ""


class Store:
    """Classes, strokes and tags of a folder. Every method works in any thread.

    Args:
        path: the journal.
        known: called with a name, says whether the folder has such an image.

    Raises:
        UserError: a journal that cannot be read.
    """

    def __init__(self, path: str | Path, known: Callable[[str], bool] = lambda name: True) -> None:
        self.journal, self.known = Journal(path), known
        self.lock = threading.RLock()
        self.state = State()
        self.seq = 0
        self.versions: dict[str, int] = {}  # the seq of an image's last change
        self.changers: dict[str, str] = {}  # its client
        self.seen: set[str] = set()  # ids of strokes that came once
        self.undone: list[Step] = []
        self.done: list[Step] = []
        for line in self.journal.read():
            self._play(line)
        if self.journal.lines > len(self.done) + len(self.undone) + SPARE_LINES:
            self.compact()

    def version(self, image: str) -> int:
        """Grows with every change of an image; 0 before the first."""
        return self.versions.get(image, 0)

    def apply(self, client: str, edits: Any, since: int | None = None) -> Change:
        """Do the edits of one request, all or none of them; each can be undone by itself, those of files as one.

        A stroke that came once is not drawn again, also after it was undone: its answer was lost, and the page sends it
        once more.

        Args:
            edits: as a page sends them; see `EDITS` of spml.app.state.
            since: the last seq that the client knows; None: each edit's `base` says what it knows of its image.

        Raises:
            BadEdit: an edit that cannot be done; then nothing has changed.
            UserError: a request that is none, or a journal that cannot be written; then nothing has changed, either.
        """
        client = read_word(client, "client")
        if not isinstance(edits, list) or not 0 < len(edits) <= MAX_EDITS:
            raise UserError(f"edits: expected a list of 1 to {MAX_EDITS}, got {short(edits)}")
        with self.lock:
            others = tuple(sorted(self._others(client, edits, since)))
            groups = [edits] if client == NOBODY else [[op] for op in edits]
            found: list[tuple[dict[str, Any], Draft]] = []
            state = self.state
            for index, group in enumerate(groups):
                draft = self._drafted(state, group, index, client)
                if draft.changed:
                    line = {"seq": self.seq + 1 + len(found), "client": client, "edits": group}
                    found.append((line, draft))
                    state = draft.state
            if not found:
                return Change(self.seq, (), False, others)
            self.journal.append(*(line for line, _ in found))
            changes = [self._take(line, draft) for line, draft in found]
            self._compact_when_due()
        images = tuple(dict.fromkeys(image for change in changes for image in change.images))
        what = changes[0].what if len(changes) == 1 else f"{len(changes)} edits"
        return Change(self.seq, images, any(change.classes for change in changes), others, what)

    def _drafted(self, state: State, edits: Sequence[Any], index: int, client: str) -> Draft:
        """Some edits on a state. Raises BadEdit."""
        draft = Draft(state)
        for op in edits:
            kind = op.get("op") if isinstance(op, Mapping) else None
            if client != NOBODY and kind not in FOR_PAGES:
                raise BadEdit(f"edit: expected op to be one of {', '.join(FOR_PAGES)}, got {short(kind)}", index)
            try:
                if kind != "stroke" or _stroke_id(op) not in self.seen:
                    draft.edit(op, self.known)
            except UserError as error:
                raise BadEdit(str(error), index) from error
        return draft

    def undo(self, client: str) -> Change:
        """Take the last request back. Raises UserError where there is none."""
        return self._back(client, "undo")

    def redo(self, client: str) -> Change:
        """Do the last request again that was taken back. Raises UserError where there is none."""
        return self._back(client, "redo")

    def begin_here(self) -> None:
        """Make what there is the beginning, which cannot be undone."""
        with self.lock:
            self.done.clear()
            self.undone.clear()
            self.compact()

    def compact(self) -> None:
        """Write the journal anew, without what nobody needs any more."""
        with self.lock:
            base = State(self.state.classes, dict(self.state.drawings))
            for step in reversed(self.done):
                _revert(base, step)
            lines: list[dict[str, Any]] = [_base_line(base)]
            lines += [step.line for step in self.done]
            lines += [step.line for step in reversed(self.undone)]
            lines += [{"seq": self.seq, "client": NOBODY, "undo": True} for _ in self.undone]
            lines.append({"seq": self.seq, "versions": self.versions, "changers": self.changers})
            self.journal.replace(lines)

    def close(self) -> None:
        """Close the journal."""
        with self.lock:
            self.journal.close()

    def _back(self, client: str, way: str) -> Change:
        client = read_word(client, "client")
        with self.lock:
            if not (self.done if way == "undo" else self.undone):
                raise UserError(f"{way}: nothing to {way}")
            line = {"seq": self.seq + 1, "client": client, way: True}
            self.journal.append(line)
            change = self._take_back(line, way)
            self._compact_when_due()
            return change

    def _play(self, line: dict[str, Any]) -> None:
        """Do what a line of the journal says."""
        try:
            if "base" in line:
                self.state = _read_base(line["base"])
            elif "versions" in line:
                self.versions, self.changers = dict(line["versions"]), dict(line["changers"])
                self.seq = line["seq"]
            elif "edits" in line:
                draft = Draft(self.state)
                for op in line["edits"]:
                    draft.edit(op, lambda name: True)
                self._take(line, draft)
            else:
                self._take_back(line, "undo" if "undo" in line else "redo")
        except (KeyError, TypeError, IndexError, UserError) as error:
            raise UserError(
                f"{self.journal.path}: the line of seq {line.get('seq')} cannot be read: {error}"
            ) from error

    def _take(self, line: dict[str, Any], draft: Draft) -> Change:
        """Take a draft over, whose line is in the journal."""
        classes = None if draft.classes_before is None else (draft.classes_before, draft.state.classes)
        after = {image: draft.state.drawing(image) for image in draft.before}
        what = draft.what[0] if len(draft.what) == 1 else f"{len(draft.what)} edits"
        self.seen.update(_stroke_id(op) for op in line["edits"] if op["op"] == "stroke")
        self.done.append(Step(line, draft.before, after, classes, what))
        del self.done[:-UNDO_DEPTH]
        self.undone.clear()
        self.state = draft.state
        return self._changed(line, tuple(after), classes is not None, what)

    def _take_back(self, line: dict[str, Any], way: str) -> Change:
        come, go = (self.done, self.undone) if way == "undo" else (self.undone, self.done)
        step = come.pop()
        state = State(self.state.classes, dict(self.state.drawings))
        _revert(state, step) if way == "undo" else _repeat(state, step)
        self.state = state
        go.append(step)
        return self._changed(line, tuple(step.after), step.classes is not None, step.what)

    def _changed(self, line: Mapping[str, Any], images: tuple[str, ...], classes: bool, what: str) -> Change:
        self.seq = max(self.seq, int(line["seq"]))
        for image in images:
            self.versions[image], self.changers[image] = self.seq, str(line["client"])
        return Change(self.seq, images, classes, what=what)

    def _others(self, client: str, edits: Sequence[Mapping[str, Any]], since: int | None) -> set[str]:
        """Images that another client changed and that this one does not know of."""
        if isinstance(since, int) and not isinstance(since, bool):
            known = {image: since for image in self.versions}
        else:
            known_ops = [op for op in edits if isinstance(op, Mapping) and "image" in op]
            bases = {str(op["image"]): op.get("base") for op in known_ops}
            known = {image: base for image, base in bases.items() if isinstance(base, int)}
        return {
            image for image, base in known.items() if self.version(image) > base and self.changers.get(image) != client
        }

    def _compact_when_due(self) -> None:
        if self.journal.lines > len(self.done) + len(self.undone) + SPARE_LINES:
            self.compact()


def _stroke_id(op: Mapping[str, Any]) -> str:
    stroke = op.get("stroke")
    return str(stroke.get("id")) if isinstance(stroke, Mapping) else ""


def _revert(state: State, step: Step) -> None:
    state.drawings.update(step.before)
    if step.classes is not None:
        state.classes = step.classes[0]


def _repeat(state: State, step: Step) -> None:
    state.drawings.update(step.after)
    if step.classes is not None:
        state.classes = step.classes[1]


def _base_line(state: State) -> dict[str, Any]:
    drawings = {
        image: {"strokes": [stroke.as_json() for stroke in drawing.strokes], "tags": list(drawing.tags)}
        for image, drawing in state.drawings.items()
        if drawing != Drawing()
    }
    return {"base": {"classes": [one.as_json(i) for i, one in enumerate(state.classes)], "drawings": drawings}}


def _read_base(content: Mapping[str, Any]) -> State:
    classes = tuple(Class(one["key"], one["name"], one["color"], one["locked"]) for one in content["classes"])
    drawings = {
        image: Drawing(tuple(map(read_stroke, one["strokes"])), tuple(one["tags"]))
        for image, one in content["drawings"].items()
    }
    return State(classes, drawings)
