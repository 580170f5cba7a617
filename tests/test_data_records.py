"""Annotations and over-segmentations by record: other options or contents never pass for what is there."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spml import records
from spml.data.annotate_list import annotate_list
from spml.data.oversegment_list import oversegment_list
from spml.errors import UserError
from spml.visualize.pictures import annotation_picture, chosen, regions_picture, tags_picture

NAMES = ("background", "red", "green")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three images with masks of two squares, and a list of them."""
    folder = tmp_path / "data"
    for kind in ("image", "mask"):
        (folder / kind).mkdir(parents=True)
    for number in range(3):
        mask = np.zeros((60, 80), np.uint8)
        mask[10:40, 5 + number : 35], mask[20:55, 45:75] = 1, 2
        image = np.array([(90, 90, 90), (200, 60, 60), (60, 200, 60)], np.uint8)[mask]
        Image.fromarray(image).save(folder / "image" / f"{number}.png")
        Image.fromarray(mask).save(folder / "mask" / f"{number}.png")
    (folder / "list.txt").write_text("".join(f"image/{i}.png mask/{i}.png\n" for i in range(3)))
    return folder


def make(data: Path, kind: str = "scribble", **options) -> Path:
    return annotate_list(data, data / "list.txt", data / "weak", kind, classes=NAMES, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


@pytest.mark.parametrize("kind", ["scribble", "point", "box"])
def test_another_run_of_the_same_makes_nothing(data: Path, kind: str) -> None:
    path = make(data, kind)
    folder = data / "weak" / kind
    times = {file: file.stat().st_mtime_ns for file in folder.rglob("*.png")}
    assert len(times) == 6  # three labels and three pictures
    assert make(data, kind) == path
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*.png")} == times
    record = records.read(folder)
    assert record is not None and record.complete and record.kind == "annotations"


def test_other_options_are_refused_or_replace_all(data: Path) -> None:
    make(data)
    old = content(data / "weak" / "scribble")
    with pytest.raises(UserError, match=r"other annotations are here \(settings.how.seed 0, now 1\).*--overwrite"):
        make(data, seed=1)
    assert content(data / "weak" / "scribble") == old
    make(data, seed=1, overwrite=True)
    new = content(data / "weak" / "scribble")
    assert all(new[name] != old[name] for name in old)
    make(data, seed=0, dilation=5, overwrite=True)
    make(data, "point")  # another kind has a folder of its own


def test_other_masks_and_images_are_noticed(data: Path) -> None:
    make(data)
    Image.fromarray(np.full((60, 80), 1, np.uint8)).save(data / "mask" / "1.png")
    with pytest.raises(UserError, match="other annotations are here .contents.label"):
        make(data)
    (data / "list.txt").write_text("image/0.png mask/0.png\n")
    with pytest.raises(UserError, match="contents.names"):
        make(data)


@pytest.mark.parametrize("kind", ["scribble", "point", "box"])
def test_an_interrupted_run_goes_on(data: Path, kind: str, monkeypatch) -> None:
    make(data, kind)
    whole = content(data / "weak" / kind)
    boxes = (data / "weak" / "boxes.json").read_bytes() if kind == "box" else b""
    records.reopen(data / "weak" / kind)
    (data / "weak" / kind / "2.png").unlink()
    (data / "weak" / "boxes.json").unlink(missing_ok=True)
    kept = data / "weak" / kind / "0.png"
    time = kept.stat().st_mtime_ns
    make(data, kind)
    assert content(data / "weak" / kind) == whole
    assert kind == "box" or kept.stat().st_mtime_ns == time
    assert kind != "box" or (data / "weak" / "boxes.json").read_bytes() == boxes


def test_a_missing_file_of_a_complete_run_is_made_again(data: Path) -> None:
    make(data)
    whole = content(data / "weak" / "scribble")
    (data / "weak" / "scribble" / "1.png").unlink()
    make(data)
    assert content(data / "weak" / "scribble") == whole


@pytest.mark.parametrize(
    ("kind", "own"), [("scribble", "scribble/1.png"), ("tag", "tags.txt"), ("box", "boxes.json"), ("box", "box/1.png")]
)
def test_files_without_a_record_may_be_made_by_hand(data: Path, kind: str, own: str) -> None:
    path = data / "weak" / own
    path.parent.mkdir(parents=True)
    if path.suffix == ".png":
        Image.new("L", (80, 60), 3).save(path)
    else:
        path.write_text("by hand")
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"{path.name}: no record says what made this file"):
        make(data, kind)
    assert path.read_bytes() == before and not list((data / "weak").rglob("record.json"))
    make(data, kind, overwrite=True)
    assert path.read_bytes() != before


def test_several_processes_write_the_same(data: Path) -> None:
    make(data, "box")
    one, boxes = content(data / "weak" / "box"), (data / "weak" / "boxes.json").read_text()
    make(data, "box", num_workers=2, overwrite=True)
    assert content(data / "weak" / "box") == one and (data / "weak" / "boxes.json").read_text() == boxes


def test_tags_leave_pictures_and_a_record(data: Path) -> None:
    path = make(data, "tag")
    assert path.read_text().splitlines() == [f"image/{i}.png" for i in range(3)]
    assert (data / "weak" / "tags.txt").read_text() == "0 1 2\n1 1 2\n2 1 2\n"
    assert len(list((data / "weak" / "tag" / "pictures").glob("*.png"))) == 3
    (data / "weak" / "tags.txt").unlink()
    make(data, "tag")
    assert (data / "weak" / "tags.txt").is_file()


def test_another_threshold_keeps_no_old_region(data: Path) -> None:
    pytest.importorskip("higra")
    listed, folder = data / "list.txt", data / "regions"
    assert oversegment_list(data, listed, folder, threshold=1.0, num_workers=0) == 3
    assert oversegment_list(data, listed, folder, threshold=1.0, num_workers=0) == 0
    fine = content(folder)
    with pytest.raises(UserError, match=r"other over-segmentations are here \(settings.threshold 1.0, now 50.0\)"):
        oversegment_list(data, listed, folder, threshold=50, num_workers=0)
    assert oversegment_list(data, listed, folder, threshold=50, num_workers=0, overwrite=True) == 3
    assert content(folder).keys() == fine.keys() and all(content(folder)[name] != fine[name] for name in fine)
    assert len(list((folder / "pictures").glob("*.png"))) == 3
    (folder / "1.png").unlink()
    assert oversegment_list(data, listed, folder, threshold=50, num_workers=0) == 1
    record = records.read(folder)
    assert record is not None and record.complete


def test_pictures(tmp_path: Path) -> None:
    image = np.full((2000, 3000, 3), 120, np.uint8)
    label = np.full((2000, 3000), 254, np.uint8)
    label[1000, 100:2900], label[:, 1500] = 1, 200  # lines a pixel wide
    label[:400] = 255
    annotation_picture(image, label, tmp_path / "annotation.png", NAMES)
    picture = np.array(Image.open(tmp_path / "annotation.png"))
    assert 900 < picture.shape[1] < 1100 and 340 < picture.shape[0] < 440
    red = (picture[..., 0] > 100) & (picture[..., 1:] < 60).all(2)
    assert red[:, picture.shape[1] // 2 :].any(1).sum() >= 1 and red.sum() > 300  # the line is still there
    tags_picture(image, [1, 2], tmp_path / "tags.png", NAMES)
    regions_picture(image, label // 100, tmp_path / "regions.png")
    assert np.array(Image.open(tmp_path / "regions.png")).shape[1] > 3 * 400
    empty = np.full((30, 40), 254, np.uint8)
    annotation_picture(image[:30, :40], empty, tmp_path / "empty.png")  # nothing is annotated: no legend
    assert np.array(Image.open(tmp_path / "empty.png")).shape[0] < 60


def test_pictures_are_spread_over_the_list() -> None:
    assert chosen(range(10), 4) == [0, 3, 6, 9] and chosen([5], 4) == [5] and chosen([], 4) == []
