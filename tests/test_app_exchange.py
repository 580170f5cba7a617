"""Annotations of other tools through the page: out and in again, undone, and refused as a whole."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spml.app.exchange import FORMATS, export_archive, import_file
from spml.app.studio import Studio
from spml.errors import UserError

pytest.importorskip("spml.data.formats")


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    """Two images with a filled polygon each; no network is loaded."""
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / name)
    found = Studio(tmp_path, tmp_path / "none", ["background", "cow"])
    key = found.store.state.classes[1].key
    for name in ("a.png", "b.png"):
        one = {"id": name, "kind": "polygon", "class": key, "width": 1, "points": [[5, 5], [30, 5], [30, 25], [5, 25]]}
        found.edit("me", [{"op": "stroke", "image": name, "stroke": {**one, "filled": True}}])
    return found


def labelme(**more: Any) -> bytes:
    shape = {"label": "sheep", "shape_type": "rectangle", "points": [[30, 30], [10, 10]], "flags": {}, "group_id": None}
    content = {"version": "5.0", "flags": {}, "shapes": [shape], "imagePath": "a.png", "imageData": None}
    return json.dumps({**content, "imageHeight": 40, "imageWidth": 60, **more}).encode()


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_goes_out(studio: Studio, form: str) -> None:
    if form in ("voc", "cityscapes", "coco_panoptic"):  # of labels, for every pixel
        for name in ("a.png", "b.png"):
            studio.files.accept(name, np.ones((40, 60), np.uint8), studio.store.state.classes)
    names = zipfile.ZipFile(export_archive(studio, form)).namelist()
    assert "README.txt" in names and len(names) > 1 and not any(name.startswith(("/", "..")) for name in names)


def test_out_and_in_again_is_the_same(studio: Studio) -> None:
    content = export_archive(studio, "labelme", images=True).read_bytes()
    before = studio.store.state.drawing("a.png").strokes[0]
    studio.edit("me", [{"op": "remove", "image": "a.png", "id": "a.png"}])
    answer = import_file(studio, content, "auto", "export.zip")
    (after,) = studio.store.state.drawing("a.png").strokes
    assert (after.kind, after.key, after.points) == (before.kind, before.key, before.points)
    assert answer["images"] == 2 and answer["problems"] == []


def test_a_file_replaces_the_strokes_of_its_image_and_undo_brings_them_back(studio: Studio) -> None:
    before = studio.store.state
    answer = import_file(studio, labelme(), "labelme", "a.json")
    state = studio.store.state
    (stroke,) = state.drawing("a.png").strokes
    assert [one.name for one in state.classes] == ["background", "cow", "sheep"] and answer["classes"] == 3
    assert (stroke.kind, stroke.key) == ("box", state.classes[2].key)
    assert state.drawing("b.png") == before.drawing("b.png")
    studio.undo("me")
    assert studio.store.state.drawing("a.png") == before.drawing("a.png")
    assert studio.store.state.classes == before.classes
    studio.files.flush()
    assert json.loads((studio.images.folder / "strokes" / "a.json").read_text())["strokes"][0]["id"] == "a.png"


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"", "auto"),
        (b"no annotations", "auto"),
        (b"{", "labelme"),
        (labelme(imagePath="../../secret.png"), "labelme"),
        (labelme(shapes=[{"label": "x"}]), "labelme"),
        (b"PK\x03\x04 no zip", "auto"),
        (b"<!DOCTYPE a [<!ENTITY b 'bb'>]><annotations>&b;</annotations>", "cvat"),
        (labelme(), "word"),
    ],
)
def test_what_cannot_be_taken_in_changes_nothing(studio: Studio, content: bytes, form: str) -> None:
    before, seq = studio.store.state, studio.store.seq
    with pytest.raises(UserError) as caught:
        import_file(studio, content, form, "../../evil.json")
    assert "\n" not in str(caught.value)
    assert studio.store.state is before and studio.store.seq == seq
