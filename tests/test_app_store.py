"""The journal and the store: nothing confirmed is lost, everything can be undone, two pages do not hurt each other."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from spml.app import store as module
from spml.app.journal import Journal
from spml.app.store import Store
from spml.errors import UserError


def stroke(name: str, key: str = "cow", image: str = "a.jpg", **more: Any) -> dict:
    one = {"id": name, "kind": "brush", "class": key, "width": 3, "points": [[1, 2], [3, 4]], "filled": False}
    return {"op": "stroke", "image": image, "stroke": one, **more}


def add(key: str, name: str | None = None) -> dict:
    return {"op": "class_add", "key": key, "name": name or key, "color": "#ff0000"}


def ids(store: Store, image: str = "a.jpg") -> list[str]:
    return [one.id for one in store.state.drawing(image).strokes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".studio" / "journal"


@pytest.fixture
def store(path: Path) -> Store:
    found = Store(path)
    found.apply("me", [add("cow"), add("sky")])
    return found


# the journal


def test_a_torn_last_line_is_cut_off(path: Path) -> None:
    journal = Journal(path)
    for number in range(3):
        journal.append({"seq": number, "text": "ä\n"})
    journal.close()
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        lines = Journal(path).read()
        assert [one["seq"] for one in lines] == list(range(whole[:cut].count(b"\n")))
        again = Journal(path)
        again.read()
        again.append({"seq": 9})
        again.close()
        assert Journal(path).read()[-1] == {"seq": 9}


def test_zeros_behind_the_last_line_are_cut_off(path: Path) -> None:
    """What some file systems leave after a loss of power."""
    Journal(path).append({"seq": 1})
    with path.open("ab") as file:
        file.write(b"\0" * 100 + b"\n")
    assert Journal(path).read() == [{"seq": 1}]
    assert path.stat().st_size == len(b'{"seq":1}\n')


def test_a_damaged_line_in_the_middle_is_no_torn_one(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"seq":1}\n{"se\n{"seq":3}\n')
    with pytest.raises(UserError, match="line 2 is damaged"):
        Journal(path).read()


def test_a_full_disk_takes_the_line_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    journal.append({"seq": 1})

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(UserError, match="No space left"):
            journal.append({"seq": 2})
    journal.append({"seq": 3})
    assert [one["seq"] for one in Journal(path).read()] == [1, 3]


# edits


def test_strokes_are_there_after_a_restart(store: Store, path: Path) -> None:
    store.apply("me", [stroke("1"), stroke("2", "sky"), {"op": "tags", "image": "b.jpg", "tags": ["sky", "cow"]}])
    again = Store(path)
    assert again.state == store.state and again.seq == store.seq and again.versions == store.versions
    assert ids(again) == ["1", "2"] and again.state.drawing("b.jpg").tags == ("cow", "sky")


def test_a_request_is_done_as_a_whole_or_not_at_all(store: Store, path: Path) -> None:
    size, before = path.stat().st_size, store.state
    with pytest.raises(UserError, match="expected the key of a class"):
        store.apply("me", [stroke("1"), stroke("2", "dog")])
    assert store.state is before and path.stat().st_size == size


def test_a_stroke_that_is_sent_again_is_not_drawn_twice(store: Store) -> None:
    first = store.apply("me", [stroke("1")])
    second = store.apply("me", [stroke("1")])
    assert ids(store) == ["1"] and second.seq == first.seq and second.images == ()


def test_a_stroke_that_was_undone_does_not_come_back_by_itself(store: Store, path: Path) -> None:
    store.apply("me", [stroke("1")])
    store.undo("me")
    store.apply("me", [stroke("1"), stroke("2")])
    again = Store(path)
    again.apply("me", [stroke("1")])
    assert ids(store) == ids(again) == ["2"]


def test_each_edit_of_a_request_is_undone_by_itself(store: Store) -> None:
    change = store.apply("me", [stroke("1"), stroke("2"), stroke("3", image="b.jpg")])
    assert change.images == ("a.jpg", "b.jpg") and change.what == "3 edits"
    store.undo("me")
    store.undo("me")
    assert ids(store) == ["1"] and ids(store, "b.jpg") == []


def test_a_locked_class_takes_no_strokes_and_stays(store: Store) -> None:
    store.apply("me", [stroke("1"), {"op": "class_edit", "key": "cow", "locked": True}])
    for edit in (stroke("2"), {"op": "class_delete", "key": "cow"}):
        with pytest.raises(UserError, match="this class is locked"):
            store.apply("me", [edit])
    store.apply("me", [stroke("3", "sky"), {"op": "class_edit", "key": "cow", "locked": False}, stroke("2")])
    assert ids(store) == ["1", "3", "2"]


def test_nothing_is_confirmed_that_is_not_on_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    monkeypatch.setattr(
        "os.fsync", lambda file: order.append(json.loads(Path(store.journal.path).read_bytes().split(b"\n")[-2]))
    )
    store.apply("me", [stroke("1")])
    assert order[-1]["edits"][0]["stroke"]["id"] == "1"


def test_undo_and_redo_go_back_to_every_state_also_after_restarts(path: Path) -> None:
    """A random sitting beside a list of all states: undo walks back along it, redo forward, a new edit cuts it."""
    draw, store = random.Random(3), Store(path)
    states, place = [store.state], 0
    for number in range(150):
        keys = [one.key for one in store.state.classes]
        what = draw.choice(
            ["undo", "redo", "restart", "compact", "add", "stroke", "stroke", "remove", "delete", "edit"]
        )
        if what == "restart":
            store.close()
            store = Store(path)
        elif what == "compact":
            store.compact()
        elif what == "undo" and place:
            store.undo("me")
            place -= 1
        elif what == "redo" and place < len(states) - 1:
            store.redo("me")
            place += 1
        else:
            image = draw.choice("ab")
            drawn = [one.id for one in store.state.drawing(image).strokes]
            ops = {
                "stroke": [stroke(str(number), draw.choice(keys or ["-"]), image)] if keys else [],
                "remove": [{"op": "remove", "image": image, "id": draw.choice(drawn or ["-"])}],
                "delete": [{"op": "class_delete", "key": draw.choice(keys)}] if keys else [],
                "edit": [{"op": "class_edit", "key": draw.choice(keys), "name": f"n{number}"}] if keys else [],
            }.get(what, [add(f"k{number}")])
            seq = store.seq
            if ops and store.apply("me", ops).seq > seq:
                states, place = [*states[: place + 1], store.state], place + 1
        assert content(store) == content_of(states[place]), (number, what)
        assert (len(store.done), len(store.undone)) == (place, len(states) - 1 - place)


def content(store: Store) -> tuple:
    return content_of(store.state)


def content_of(state: Any) -> tuple:
    return state.classes, {name: one for name, one in state.drawings.items() if one.strokes or one.tags}


def test_undo_of_nothing(path: Path) -> None:
    with pytest.raises(UserError, match="nothing to undo"):
        Store(path).undo("me")


def test_seq_and_versions_never_go_back(store: Store, path: Path) -> None:
    store.apply("me", [stroke("1")])
    store.undo("me")
    seq, version = store.seq, store.version("a.jpg")
    store.compact()
    again = Store(path)
    assert (again.seq, again.version("a.jpg")) == (seq, version)
    assert again.redo("me").seq > seq and ids(again) == ["1"]


def test_a_journal_does_not_grow_for_ever(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPARE_LINES", 20)
    monkeypatch.setattr(module, "UNDO_DEPTH", 10)
    for number in range(60):
        store.apply("me", [stroke(str(number))])
    for _ in range(100):
        store.undo("me")
        store.redo("me")
    assert len(path.read_bytes().splitlines()) < 40
    again = Store(path)
    assert len(ids(again)) == 60 and len(again.done) == 10


def test_what_cannot_be_undone_any_more_stays(store: Store, path: Path) -> None:
    store.apply("me", [stroke("1")])
    store.begin_here()
    store.apply("me", [stroke("2")])
    again = Store(path)
    again.undo("me")
    assert ids(again) == ["1"]
    with pytest.raises(UserError, match="nothing to undo"):
        again.undo("me")


# two pages


def test_two_pages_on_one_image_lose_nothing_and_the_later_is_told(store: Store) -> None:
    first = store.apply("one", [stroke("1", base=0)])
    second = store.apply("two", [stroke("2", base=0)])
    assert first.others == () and second.others == ("a.jpg",) and ids(store) == ["1", "2"]
    assert store.apply("two", [stroke("3", base=second.seq)]).others == ()
    assert store.apply("one", [stroke("4", image="b.jpg")], since=first.seq).others == ("a.jpg",)


def test_own_edits_are_no_surprise(store: Store) -> None:
    store.apply("one", [stroke("1", base=0)])
    assert store.apply("one", [stroke("2", base=0)]).others == ()


def test_undo_in_one_page_is_a_change_for_the_other(store: Store) -> None:
    store.apply("one", [stroke("1")])
    change = store.undo("two")
    assert change.images == ("a.jpg",) and change.what == "brush on a.jpg"
    assert store.apply("one", [stroke("2", base=change.seq - 1)]).others == ("a.jpg",)


# classes


def test_deleting_a_class_takes_its_strokes_and_undo_brings_them_back(store: Store) -> None:
    store.apply("me", [stroke("1"), stroke("2", "sky"), stroke("3", image="b.jpg")])
    assert store.state.uses("cow") == (2, 2)
    change = store.apply("me", [{"op": "class_delete", "key": "cow"}])
    assert set(change.images) == {"a.jpg", "b.jpg"} and ids(store) == ["2"] and ids(store, "b.jpg") == []
    assert store.state.ids == {"sky": 0}
    store.undo("me")
    assert ids(store) == ["1", "2"] and store.state.ids == {"cow": 0, "sky": 1}


def test_a_class_is_renamed_recoloured_and_locked(store: Store) -> None:
    store.apply("me", [{"op": "class_edit", "key": "cow", "name": " bull ", "color": "#ABCDEF", "locked": True}])
    assert store.state.classes[0].as_json(0) == {
        **{"key": "cow", "id": 0, "name": "bull", "color": "#abcdef", "locked": True}
    }


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (add("cow", "ox"), "which another class has"),
        (add("ox", "cow"), "a name that no other class has"),
        (add("ox", " "), "expected a name"),
        (add("ox", "o\nx"), "printable"),
        ({**add("ox"), "color": "red"}, "#rrggbb"),
        ({**add("ox"), "locked": "no"}, "true or false"),
        ({"op": "class_edit", "key": "sky", "name": "cow"}, "no other class"),
        ({"op": "class_delete", "key": "ox"}, "key of a class"),
        ({"op": "class_delete", "key": ["cow"]}, "key of a class"),
        ({"op": "tags", "image": "a", "tags": ["ox"]}, "key of a class"),
        ({"op": "tags", "image": "a", "tags": "cow"}, "list of keys"),
        ({"op": "remove", "image": "a"}, "id of a stroke"),
        ({"op": "replace", "image": "a", "strokes": [], "tags": []}, "expected op"),
        ({"op": "stroke", "image": 3}, "an image of the folder"),
        ({"op": {}}, "expected op"),
        ([], "expected op"),
        (None, "expected op"),
    ],
)
def test_edits_that_cannot_be_done(store: Store, edit: Any, message: str) -> None:
    before = store.state
    with pytest.raises(UserError, match=message):
        store.apply("me", [edit])
    assert store.state is before


def test_images_of_the_folder_alone(path: Path) -> None:
    store = Store(path, known=lambda name: name == "a.jpg")
    store.apply("me", [add("cow")])
    store.apply("me", [stroke("1")])
    with pytest.raises(UserError, match="an image of the folder"):
        store.apply("me", [stroke("2", image="../b.jpg")])


@pytest.mark.parametrize("edits", [None, [], {}, "x", [add("k")] * 1001])
def test_requests_that_are_no_list_of_edits(store: Store, edits: Any) -> None:
    with pytest.raises(UserError, match="expected a list"):
        store.apply("me", edits)
