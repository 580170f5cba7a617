"""The folder beside the journal: what the command line reads, what other programs wrote, what is left out."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import spml
from spml.app import images as module
from spml.app.adopt import COLOURS, add_classes, adopt
from spml.app.files import Files
from spml.app.images import Images, Missing
from spml.app.store import Store
from spml.app.strokes import paint
from spml.classes import read_class_names
from spml.data.lists import check_samples, read_list
from spml.data.pairs import find_lists
from spml.data.samples import read_label
from spml.data.tags import read_tags
from spml.errors import UserError


def photo(path: Path, size: tuple[int, int] = (20, 30), seed: int = 0, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "my photos"
    photo(root / "a.jpg")
    photo(root / "deep" / "b.png", seed=1)
    photo(root / "c.png", seed=2)
    return root


class Opened:
    """The parts of a studio without network and server."""

    def __init__(self, folder: Path) -> None:
        self.images = Images(folder)
        self.store = Store(folder / ".studio" / "journal", self.images.known)
        self.files = Files(self.images, self.store)
        self.problems = adopt(self.files)

    def draw(self, image: str, key: str, *points: tuple[float, float], kind: str = "line", name: str = "") -> None:
        one = {"id": name or f"{image}{points}", "kind": kind, "class": key, "width": 3}
        edit = {"op": "stroke", "image": image, "stroke": {**one, "points": [list(p) for p in points]}}
        self.files.touch(self.store.apply("me", [edit]).images)

    def classes(self, *names: str) -> None:
        self.store.apply("me", add_classes(names, self.store.state.classes))

    @property
    def keys(self) -> dict[str, str]:
        return {one.name: one.key for one in self.store.state.classes}


@pytest.fixture
def opened(folder: Path) -> Opened:
    found = Opened(folder)
    found.classes("background", "cow", "sky")
    return found


# images


def test_images_are_found_and_own_folders_left_out(folder: Path) -> None:
    for name in ("strokes/x.jpg", "labels/x.png", "weak/x.png", "runs/1/x.png", ".hidden/x.jpg", "deep/.x.jpg"):
        photo(folder / name)
    photo(folder / "deep" / "labels" / "d.jpg")
    (folder / "notes.txt").write_text("no image")
    assert list(Images(folder).entries) == ["a.jpg", "c.png", "deep/b.png", "deep/labels/d.jpg"]


def test_links_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    photo(tmp_path / "outside" / "secret.jpg")
    (folder / "file.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")
    (folder / "way").symlink_to(tmp_path / "outside")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "round").symlink_to(folder)
    (folder / "inside.jpg").symlink_to(folder / "a.jpg")
    images = Images(folder)
    assert list(images.entries) == ["a.jpg", "c.png", "deep/b.png", "inside.jpg"]
    (folder / "a.jpg").unlink()
    (folder / "a.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")  # after the folder was listed
    with pytest.raises(Missing):
        images.path("a.jpg")
    with pytest.raises(Missing):
        images.entry("../outside/secret.jpg")


def test_what_cannot_be_read_is_listed_with_the_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    (folder / "empty.png").touch()
    whole = (folder / "c.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    photo(folder / "c.bmp")
    monkeypatch.setattr(module, "MAX_PIXELS", 700)
    photo(folder / "large.png", (30, 30))
    images = Images(folder)
    for name in ("broken.jpg", "empty.png"):
        assert str(images.error(name)).startswith(f"cannot read image {name}")
    assert images.error("half.png") is None  # its header is whole
    with pytest.raises(UserError, match="half.png"):
        images.read("half.png")
    assert "half.png" in str(images.error("half.png"))
    assert "c.bmp has the same name" in str(images.error("c.png"))
    assert "expected at most 0 million" in str(images.error("large.png"))


def test_a_bomb_is_not_unpacked(folder: Path) -> None:
    """A PNG of a few bytes whose header says 60,000 x 60,000 pixels."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    images = Images(folder)
    assert images.error("bomb.png") is not None
    with pytest.raises(UserError):
        images.picture("bomb.png", module.THUMB_SIDE, folder / ".studio")


def test_photographs_are_turned_and_reduced(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(folder / "turned.jpg", (1000, 3000), exif=exif)
    images = Images(folder)
    assert images.size("turned.jpg") == (3000, 1000) and images.photo_size("turned.jpg") == (2048, 683)
    content, kind = images.picture("turned.jpg", module.PHOTO_SIDE, folder / ".studio")
    assert kind == "image/jpeg" and images.photo("turned.jpg").shape == (2048, 683, 3)
    again, _ = images.picture("turned.jpg", module.PHOTO_SIDE, folder / ".studio")
    assert again == content and b"Exif" not in content


def test_a_small_png_is_sent_as_it_is(folder: Path) -> None:
    content, kind = Images(folder).picture("c.png", module.PHOTO_SIDE, folder / ".studio")
    (folder / "sent.png").write_bytes(content)
    assert kind == "image/png"
    assert (np.array(Image.open(folder / "sent.png")) == np.array(Image.open(folder / "c.png"))).all()


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a folder"):
        Images(tmp_path / "nothing")


# files


def test_the_command_line_reads_the_folder(opened: Opened, folder: Path) -> None:
    opened.draw("a.jpg", opened.keys["cow"], (2, 5), (20, 5))
    opened.draw("a.jpg", opened.keys["background"], (2, 15), (20, 15))
    opened.draw("deep/b.png", opened.keys["sky"], (4.5, 4.5), kind="point")
    opened.store.apply("me", [{"op": "tags", "image": "c.png", "tags": [opened.keys["sky"]]}])
    opened.files.accept("c.png", np.full((20, 30), 2, np.uint8), opened.store.state.classes)
    opened.files.flush()
    assert read_class_names(folder / "classes.txt") == ("background", "cow", "sky")
    samples = read_list(folder / "lists" / "scribble.txt", folder, columns=2)
    assert [sample.name for sample in samples] == ["a", "b"]
    check_samples(samples, 3)
    label = read_label(folder / "weak" / "a.png")
    state = opened.store.state
    assert (label == paint(state.drawing("a.jpg").strokes, state.ids, (20, 30))).all()
    assert set(np.unique(label)) == {0, 1, 254}
    (accepted,) = read_list(folder / "lists" / "mask.txt", folder, columns=2)
    assert find_lists(folder, "scribble").train == folder / "lists" / "scribble.txt"
    assert [sample.name for sample in read_list(folder / "lists" / "point.txt", folder, columns=2)] == ["b"]
    assert (read_label(str(accepted.label)) == 2).all()
    assert len(read_list(folder / "lists" / "images.txt", folder)) == 3
    assert (folder / "tags.txt").read_text() == "a 1\nc 2\nb 2\n"
    tagged = read_list(folder / "lists" / "tag.txt", folder)
    assert list(read_tags(folder / "tags.txt", tagged, 3)["c"]) == [False, False, True]
    content = json.loads((folder / "strokes" / "deep" / "b.json").read_text())
    assert (content["width"], content["height"], content["strokes"][0]["kind"]) == (30, 20, "point")


def test_files_go_with_what_they_say(opened: Opened, folder: Path) -> None:
    opened.draw("a.jpg", opened.keys["cow"], (2, 5), (20, 5), name="1")
    opened.files.flush()
    opened.files.touch(opened.store.undo("me").images)
    opened.files.flush()
    assert not (folder / "strokes" / "a.json").exists() and not (folder / "weak" / "a.png").exists()
    assert not (folder / "lists" / "scribble.txt").exists()


def test_labels_follow_their_classes(opened: Opened, folder: Path) -> None:
    """Deleting class 1 makes class 2 class 1, in accepted labels too; undo brings its pixels back."""
    label = np.repeat(np.array([0, 1, 2], np.uint8), 200).reshape(20, 30)
    opened.files.accept("c.png", label, opened.store.state.classes)
    opened.draw("a.jpg", opened.keys["sky"], (2, 5), (20, 5))
    opened.store.apply("me", [{"op": "class_delete", "key": opened.keys["cow"]}])
    opened.files.flush()
    found = read_label(folder / "labels" / "c.png")
    assert (found == np.array([0, 254, 1], np.uint8)[label]).all()
    assert set(np.unique(read_label(folder / "weak" / "a.png"))) == {1, 254}
    opened.store.undo("me")
    opened.files.flush()
    assert (read_label(folder / "labels" / "c.png") == label).all()


def test_names_with_spaces_are_listed_with_tabs(folder: Path) -> None:
    photo(folder / "a cow.jpg")
    opened = Opened(folder)
    opened.classes("background", "cow")
    opened.draw("a cow.jpg", opened.keys["cow"], (2, 5), (20, 5))
    opened.files.flush()
    (sample,) = read_list(folder / "lists" / "scribble.txt", folder, columns=2)
    assert sample.image == folder / "a cow.jpg" and not opened.files.notes


def test_boxes_are_listed(opened: Opened, folder: Path) -> None:
    opened.draw("a.jpg", opened.keys["cow"], (20, 15), (4, 5), kind="box")
    opened.draw("a.jpg", opened.keys["background"], (20, 15), (4, 5), kind="box")
    opened.files.flush()
    boxes = json.loads((folder / "boxes.json").read_text())
    assert boxes == {"a": [{"class": 1, "x0": 4, "y0": 5, "x1": 20, "y1": 15}]}
    assert read_list(folder / "lists" / "box.txt", folder, columns=2)[0].name == "a"


def test_void_stays_void(opened: Opened, folder: Path) -> None:
    label = np.full((20, 30), 1, np.uint8)
    label[:5], label[5:8] = 255, 254
    (folder / "labels").mkdir()
    Image.fromarray(label).save(folder / "labels" / "a.png")
    assert adopt(opened.files) == []
    opened.store.apply("me", [{"op": "class_delete", "key": opened.keys["background"]}])
    opened.files.flush()
    found = read_label(folder / "labels" / "a.png")
    assert (found[:5] == 255).all() and (found[5:8] == 254).all() and (found[8:] == 0).all()


def test_a_killed_server_leaves_nothing_behind_the_journal(opened: Opened, folder: Path) -> None:
    """Files that an edit did not reach are written by the next server, and are not taken for another program's."""
    opened.draw("a.jpg", opened.keys["cow"], (2, 5), (20, 5), name="1")
    opened.files.flush()
    opened.draw("a.jpg", opened.keys["sky"], (2, 9), (20, 9), name="2")  # and killed before a file is written
    opened.store.close()
    again = Opened(folder)
    assert [one.id for one in again.store.state.drawing("a.jpg").strokes] == ["1", "2"] and not again.problems
    again.files.start()
    again.files.close()
    assert len(json.loads((folder / "strokes" / "a.json").read_text())["strokes"]) == 2


def test_a_class_that_was_deleted_does_not_come_back_by_an_old_file(opened: Opened, folder: Path) -> None:
    opened.files.flush()
    opened.store.apply("me", [{"op": "class_delete", "key": opened.keys["cow"]}])  # and killed before a file is written
    opened.store.close()
    again = Opened(folder)
    assert list(again.keys) == ["background", "sky"] and not again.problems
    again.files.flush()
    (folder / "classes.txt").write_text("background\nsky\ndog\n")
    again.store.close()
    assert list(Opened(folder).keys) == ["background", "sky", "dog"]


# what other programs wrote


def test_strokes_of_another_program_are_taken_over(folder: Path) -> None:
    stroke = {"kind": "brush", "class": "cow", "width": 2, "points": [[1, 2], [5, 5]]}
    (folder / "strokes" / "deep").mkdir(parents=True)
    (folder / "strokes" / "deep" / "b.json").write_text(json.dumps({"strokes": [stroke], "tags": ["sheep"]}))
    (folder / "strokes" / "a.json").write_text('{"strokes": [{"kind": "spray"}]}')
    (folder / "strokes" / "c.json").write_text("{")
    (folder / "classes.txt").write_text("background\ncow\n")
    opened = Opened(folder)
    drawing = opened.store.state.drawing("deep/b.png")
    assert [one.name for one in opened.store.state.classes] == ["background", "cow", "sheep"]
    assert drawing.strokes[0].key == opened.keys["cow"] and drawing.tags == (opened.keys["sheep"],)
    assert len(opened.problems) == 2 and all("expected" in line for line in opened.problems)
    opened.files.flush()
    assert Opened(folder).store.seq == opened.store.seq  # once


def test_a_changed_file_replaces_what_was_drawn_and_undo_brings_it_back(opened: Opened, folder: Path) -> None:
    opened.draw("a.jpg", opened.keys["cow"], (2, 5), (20, 5), name="1")
    opened.files.flush()
    opened.store.close()
    content = json.loads((folder / "strokes" / "a.json").read_text())
    content["strokes"][0]["class"] = opened.keys["sky"]
    (folder / "strokes" / "a.json").write_text(json.dumps(content))
    again = Opened(folder)
    assert again.store.state.drawing("a.jpg").strokes[0].key == opened.keys["sky"]
    again.store.undo("me")
    assert again.store.state.drawing("a.jpg").strokes[0].key == opened.keys["cow"]


def test_labels_of_another_program_are_taken_over(opened: Opened, folder: Path) -> None:
    (folder / "labels").mkdir()
    Image.fromarray(np.full((20, 30), 1, np.uint8)).save(folder / "labels" / "a.png")
    Image.fromarray(np.full((5, 5), 1, np.uint8)).save(folder / "labels" / "c.png")
    (problem,) = adopt(opened.files)
    label = opened.files.accepted("a.jpg", opened.store.state.classes)
    assert label is not None and (label == 1).all() and "expected 30 x 20" in problem
    opened.files.flush()
    assert adopt(opened.files) == [problem]


def test_own_labels_are_not_taken_for_another_programs(opened: Opened, folder: Path) -> None:
    opened.files.accept("a.jpg", np.full((20, 30), 1, np.uint8), opened.store.state.classes)
    before = os.stat(folder / ".studio" / "accepted" / "a.png").st_mtime_ns
    assert adopt(opened.files) == []
    assert os.stat(folder / ".studio" / "accepted" / "a.png").st_mtime_ns == before


def test_a_folder_that_is_copied_without_its_journal_keeps_everything(opened: Opened, folder: Path) -> None:
    opened.store.apply("me", [{"op": "class_add", "key": "of-a-page", "name": "dog", "color": "#123456"}])
    opened.draw("a.jpg", "of-a-page", (2, 5), (20, 5), name="1")
    opened.files.accept("c.png", np.full((20, 30), 3, np.uint8), opened.store.state.classes)
    opened.files.flush()
    shutil.rmtree(folder / ".studio")
    again = Opened(folder)
    assert [one.name for one in again.store.state.classes] == ["background", "cow", "sky", "dog"]
    assert again.store.state.drawing("a.jpg").strokes[0].key == again.keys["dog"]
    label = again.files.accepted("c.png", again.store.state.classes)
    assert label is not None and (label == 3).all()


def test_classes_have_the_colours_of_the_page() -> None:
    """Whether they are named on the command line, in a file or on the page."""
    script = (Path(spml.__file__).parent / "app" / "static" / "classes.js").read_text(encoding="utf-8")
    assert re.findall(r'"(#[0-9a-f]{6})"', script.split("];")[0]) == list(COLOURS)
    found = [edit["color"] for edit in add_classes(map(str, range(32)), ())]
    assert found[:20] == list(COLOURS) and len(set(found)) == 32
