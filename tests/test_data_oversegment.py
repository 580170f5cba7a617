"""Over-segmentations: ids, borders on edges, odd images, both methods, several processes, the command line."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from spml.data import oversegment as module
from spml.data.lists import read_list
from spml.data.oversegment import METHODS, boundary_strength, oversegment
from spml.data.oversegment_list import oversegment_list
from spml.data.samples import IGNORE
from spml.errors import UserError

pytest.importorskip("higra")
pytest.importorskip("skimage")
ROOT = Path(__file__).parents[1]
COLOURS = np.array([(200, 40, 40), (40, 160, 60), (50, 60, 190), (220, 210, 90)], np.uint8)


def quarters(height: int = 60, width: int = 80, noise: float = 6) -> tuple[np.ndarray, np.ndarray]:
    """An image of four noisy rectangles, and which rectangle each pixel belongs to."""
    y, x = np.mgrid[:height, :width]
    part = 2 * (y >= height // 2) + (x >= width // 3)
    image = COLOURS[part] + np.random.default_rng(0).normal(0, noise, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), part


def purity(label: np.ndarray, part: np.ndarray) -> float:
    """Part of the pixels that have the commonest `part` of their region."""
    return sum(np.bincount(part[label == index]).max() for index in np.unique(label)) / part.size


@pytest.mark.parametrize("method", METHODS)
def test_regions_follow_the_edges(method: str) -> None:
    image, part = quarters()
    label = oversegment(image, method)
    assert label.dtype == np.uint8 and label.shape == part.shape
    assert (np.unique(label) == np.arange(label.max() + 1)).all() and 4 <= label.max() + 1 <= 60
    assert purity(label, part) > 0.99
    assert (label == oversegment(image, method)).all()


def test_a_high_cut_finds_the_four_rectangles() -> None:
    image, part = quarters()
    label = oversegment(image, threshold=8)
    assert label.max() + 1 == 4 and purity(label, part) > 0.99


def test_cuts_are_nested_and_regions_connected() -> None:
    image, _ = quarters(noise=25)
    fine, coarse = oversegment(image, threshold=1), oversegment(image, threshold=3)
    assert 4 <= coarse.max() < fine.max()
    assert purity(fine, coarse.astype(int)) == 1
    assert all(ndimage.label(fine == index)[1] == 1 for index in range(fine.max() + 1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", [1, 7, 255])
def test_at_most_so_many_regions(method: str, limit: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    label = oversegment(noise, method, threshold=1e-3, max_segments=limit)
    assert label.max() < limit and (limit == 1 or label.max() >= limit // 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 30), (3, 3), (40, 2)])
def test_small_flat_and_grey_images(method: str, shape: tuple[int, int]) -> None:
    assert (oversegment(np.full((*shape, 3), 77, np.uint8), method) == 0).all()
    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    label = oversegment(np.repeat(grey[..., None], 3, axis=2), method)
    assert label.shape == shape and label.max() < 255


def test_a_large_image_is_cut_at_reduced_size(monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 1200)
    image, part = quarters(120, 160)
    label = oversegment(image)
    assert label.shape == part.shape and purity(label, part) > 0.95


def test_boundary_strength_and_direction() -> None:
    y, x = np.mgrid[:40, :40]
    for angle in (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4):
        side = (x - 19.5) * np.cos(angle) + (y - 19.5) * np.sin(angle)
        strength, direction = boundary_strength(
            np.repeat(np.where(side > 0, 180, 60)[..., None], 3, axis=2).astype(np.uint8)
        )
        edge = (np.abs(side) < 1) & (np.hypot(x - 19.5, y - 19.5) < 10)
        assert np.allclose(direction[edge], angle, atol=0.01)
        assert strength[edge].min() > 10 * strength[np.abs(side) > 15].max()


def test_wrong_arguments_and_missing_packages(monkeypatch) -> None:
    image, _ = quarters()
    for option in ({"threshold": 0}, {"max_segments": 256}, {"max_segments": 0}):
        with pytest.raises(ValueError, match="expected threshold > 0 and 1 <= max_segments <= 255"):
            oversegment(image, **option)
    for wrong in (image / 255, image[..., 0]):
        with pytest.raises(UserError, match=r"image: expected \(H, W, 3\) uint8"):
            oversegment(wrong)
    with pytest.raises(UserError, match="--method: expected one of hierarchy, felzenszwalb, got 'slic'"):
        oversegment(image, "slic")
    for method, package in (("hierarchy", "higra"), ("felzenszwalb", "skimage.segmentation")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=rf"--method {method} needs .*: pip install -e \.\[oversegment\]"):
            oversegment(image, method)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with `list.txt` of two images and masks."""
    (tmp_path / "image").mkdir()
    (tmp_path / "mask").mkdir()
    for name in ("one", "two"):
        image, part = quarters(noise=10 if name == "one" else 20)
        Image.fromarray(image).save(tmp_path / "image" / f"{name}.jpg")
        Image.fromarray(part.astype(np.uint8)).save(tmp_path / "mask" / f"{name}.png")
    (tmp_path / "list.txt").write_text("image/one.jpg mask/one.png\nimage/two.jpg mask/two.png\n")
    return tmp_path


def test_command_line_keeps_what_is_there(data: Path, capsys) -> None:
    spec = importlib.util.spec_from_file_location("script", ROOT / "pyscripts" / "data" / "oversegment.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    save_dir = data / "regions"
    words = (
        f"--data_dir {data} --data_list {data}/list.txt --save_dir {save_dir} --list_out {data}/out.txt --num_workers 1"
    )
    script.main(words.split())
    assert capsys.readouterr().out == f"2 over-segmentations written to {save_dir}\n"
    samples = read_list(data / "out.txt", data, columns=3)
    assert all(file.is_file() for sample in samples for file in sample.files)
    label = np.array(Image.open(samples[0].regions))
    assert (label == oversegment(np.array(Image.open(samples[0].image)))).all()
    Image.new("L", (80, 60)).save(save_dir / "one.png")
    script.main(words.split())
    assert capsys.readouterr().out.startswith("0 ") and np.array(Image.open(save_dir / "one.png")).max() == 0
    script.main([*words.split(), "--overwrite"])
    assert (np.array(Image.open(save_dir / "one.png")) == label).all()


def test_several_processes_give_the_same_and_report_a_bad_file(data: Path) -> None:
    assert oversegment_list(data, data / "list.txt", data / "a", num_workers=2) == 2
    assert oversegment_list(data, data / "list.txt", data / "b", num_workers=0) == 2
    for name in ("one.png", "two.png"):
        assert (data / "a" / name).read_bytes() == (data / "b" / name).read_bytes()
    (data / "image" / "two.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="list.txt line 2.*two.jpg"):
        oversegment_list(data, data / "list.txt", data / "a", num_workers=0, overwrite=True)


def test_mistakes_are_named(data: Path) -> None:
    for option in ({"threshold": 0}, {"max_segments": 256}, {"num_workers": -1}):
        with pytest.raises(UserError, match=f"--{next(iter(option))}: expected .*got {next(iter(option.values()))}"):
            oversegment_list(data, data / "list.txt", data / "a", **option)
    (data / "images.txt").write_text("image/one.jpg\n")
    with pytest.raises(UserError, match="line 1: --list_out needs"):
        oversegment_list(data, data / "images.txt", data / "a", list_out=data / "out.txt")


def test_real_photographs_are_cut_along_the_objects(shared: Path) -> None:
    folder = shared / "data" / "msrc_things"
    right, total, counts = 0, 0, []
    for sample in read_list(folder / "train.txt", folder)[20::120]:
        mask = np.array(Image.open(sample.label))
        label = oversegment(np.array(Image.open(sample.image).convert("RGB")))
        known = mask != IGNORE
        right += purity(label[known], mask[known].astype(int)) * known.sum()
        total += known.sum()
        counts.append(label.max() + 1)
    assert right / total > 0.95 and 30 <= np.mean(counts) <= 120


def test_a_list_of_ones_own_is_not_replaced(data: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("my notes\n")
    given = (data, data / "list.txt", tmp_path / "out")
    with pytest.raises(UserError, match="--list_out .*mine.txt: holds other lines already: expected another file, or"):
        oversegment_list(*given, list_out=mine)
    assert mine.read_text() == "my notes\n" and not (tmp_path / "out").exists()
    oversegment_list(*given, list_out=mine, overwrite=True)
    oversegment_list(*given, list_out=mine)  # the same lines
    (tmp_path / "out" / "list.txt").write_text("of an earlier run\n")
    oversegment_list(*given, list_out=tmp_path / "out" / "list.txt")  # beside its regions it is ours
    assert (tmp_path / "out" / "list.txt").read_text() == mine.read_text()
