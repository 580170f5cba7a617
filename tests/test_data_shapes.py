"""The built-in data set: the same for a seed, exact, consistent, and no task for colours alone."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from spml.data import shapes
from spml.data.lists import check_samples, read_list
from spml.data.samples import UNLABELLED, read_label, read_sample_files
from spml.data.scenes import CLASSES, SCENES, SIZE, Scene, make_scene
from spml.data.shapes import LISTS, make_shapes
from spml.errors import UserError
from spml.evaluation.colour_baseline import colour_baseline

SCRIPT = Path(__file__).parents[1] / "pyscripts" / "data" / "shapes.py"


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(np.random.default_rng([7, i])) for i in range(60)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built in data") / "shapes"  # a folder with a space in its path
    assert make_shapes(folder, num_train=12, num_val=6, seed=3)
    return folder


def test_a_scene_follows_from_its_generator() -> None:
    first, again, other = (make_scene(np.random.default_rng(seed)) for seed in (5, 5, 6))
    for name in ("image", "mask", "instance"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.image != other.image).any()


def test_types_shapes_and_label_ranges(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.image.shape == (SIZE, SIZE, 3) and scene.mask.shape == scene.instance.shape == (SIZE, SIZE)
        assert {array.dtype.name for array in (scene.image, scene.mask, scene.instance)} == {"uint8"}
        assert scene.mask.max() < len(CLASSES)
        assert 1 <= scene.instance.max() <= 5
    assert set(np.unique(np.stack([scene.mask for scene in scenes]))) == set(range(len(CLASSES)))


def test_instances_have_one_class_and_stay_in_sight(scenes: list[Scene]) -> None:
    for scene in scenes:
        np.testing.assert_array_equal(scene.mask == 0, scene.instance == 0)
        for index in range(1, scene.instance.max() + 1):
            inside = scene.instance == index
            assert len(np.unique(scene.mask[inside])) == 1
            assert inside.sum() >= 180  # 60 % of the smallest object that is placed


def test_some_objects_overlap(scenes: list[Scene]) -> None:
    def touching(instance: np.ndarray) -> bool:
        left, right = instance[:, :-1], instance[:, 1:]
        return bool(((left != right) & (left > 0) & (right > 0)).any())

    assert 0.15 < np.mean([touching(scene.instance) for scene in scenes]) < 0.9


def test_classes_keep_to_their_kind_of_scene(scenes: list[Scene]) -> None:
    seen: dict[str, set[str]] = {kind: set() for kind in SCENES}
    sizes = set()
    for scene in scenes:
        present = {CLASSES[value] for value in np.unique(scene.mask) if value}
        assert present <= set(SCENES[scene.kind])
        seen[scene.kind] |= present
        sizes.add(len(present))
    assert seen == {kind: set(names) for kind, names in SCENES.items()}
    assert sizes == {1, 2, 3}  # tags that say different things
    assert set(SCENES["land"]) & set(SCENES["water"]) == {"ball"}


def test_classes_share_their_colours(scenes: list[Scene]) -> None:
    means = np.array(
        [
            np.mean(
                [scene.image[scene.mask == value].mean(0) for scene in scenes if (scene.mask == value).any()], axis=0
            )
            for value in range(1, len(CLASSES))
        ]
    )
    assert np.ptp(means, axis=0).max() < 60  # of 255; single objects differ by over 100


def test_lists_pair_what_they_promise(data: Path) -> None:
    for file, layers in LISTS.items():
        samples = read_list(data / file, data, columns=3)
        assert len(samples) == (6 if file == "val.txt" else 12)
        check_samples(samples, len(CLASSES))
        assert tuple(path.parent.name for path in samples[0].files) == layers
    assert (data / "classes.txt").read_text().split() == list(CLASSES)


@pytest.mark.parametrize("kind", ["point", "scribble", "box"])
def test_annotations_agree_with_the_mask(data: Path, kind: str) -> None:
    labelled = []
    for path in sorted((data / kind).iterdir()):
        label, mask = read_label(path), read_label(data / "mask" / path.name)
        said = label != UNLABELLED
        labelled.append(said.mean())
        if kind == "box":  # a core may hold a corner of the ground or of a neighbour
            assert (label[said & (label == 0)] == mask[said & (label == 0)]).all()
            assert (label[said] == mask[said]).mean() > 0.9
        else:
            np.testing.assert_array_equal(label[said], mask[said])
            assert set(np.unique(label[said])) == set(np.unique(mask))  # every class is told once
    assert 0 < np.mean(labelled) < {"point": 0.03, "scribble": 0.2, "box": 0.95}[kind]


def test_tags_are_the_classes_of_the_mask(data: Path) -> None:
    lines = [line.split() for line in (data / "tags.txt").read_text().splitlines()]
    assert len(lines) == 12
    for name, *tags in lines:
        mask = read_label(data / "mask" / f"{name}.png")
        assert [int(tag) for tag in tags] == [value for value in np.unique(mask) if value]


def test_oversegmentation_follows_the_objects(data: Path) -> None:
    right = total = 0
    for sample in read_list(data / "train_mask.txt", data, columns=3):
        _, mask, region = read_sample_files(sample)
        assert mask is not None and region is not None
        counts = np.bincount(region.astype(int).ravel() * len(CLASSES) + mask.ravel(), minlength=256 * len(CLASSES))
        right += counts.reshape(256, -1).max(axis=1).sum()
        total += mask.size
        assert 2 <= len(np.unique(region)) <= 255
    assert right / total > 0.96


def test_a_sample_depends_on_neither_their_number_nor_the_processes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "IMAGES_PER_PROCESS", 1)
    make_shapes(tmp_path, num_train=2, num_val=1, seed=3, processes=2)
    made = sorted(tmp_path.glob("*/*.png"))
    assert len(made) >= 3
    for path in made:
        assert path.read_bytes() == (data / path.relative_to(tmp_path)).read_bytes()


def test_complete_data_is_kept_and_other_data_is_refused(tmp_path: Path) -> None:
    assert make_shapes(tmp_path, 2, 1, seed=0)
    before = (tmp_path / "image" / "train_00000.png").stat().st_mtime_ns
    assert not make_shapes(tmp_path, 2, 1, seed=0)
    assert (tmp_path / "image" / "train_00000.png").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="holds other data.*--overwrite"):
        make_shapes(tmp_path, 1, 1, seed=0)
    assert make_shapes(tmp_path, 1, 1, seed=0, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "image").iterdir()) == ["train_00000.png", "val_00000.png"]
    (tmp_path / "meta.json").unlink()  # somebody else's data, as far as one can tell
    with pytest.raises(UserError, match="no meta.json"):
        make_shapes(tmp_path, 1, 1, seed=0)


@pytest.mark.parametrize("arguments", [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_impossible_counts(tmp_path: Path, arguments: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match="at least 1"):
        make_shapes(tmp_path, *arguments)
    assert not list(tmp_path.iterdir())


def test_colours_alone_do_not_solve_it(data: Path) -> None:
    assert colour_baseline(data, num_samples=6000) < 0.35


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--save_dir", str(tmp_path / "d"), "--num_train", "2", "--num_val", "1", "--colour_baseline"]
    for expected in ("wrote 2 training and 1 validation images", "kept the complete data"):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with pytest.raises(SystemExit) as exit_info:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        assert exit_info.value.code == 0
        out = capsys.readouterr().out
        assert expected in out and "colour baseline: mIoU" in out
    assert json.loads((tmp_path / "d" / "meta.json").read_text())["num_train"] == 2


@pytest.mark.parametrize("name", ["classes.txt", "tags.txt", "val.txt"])
def test_files_of_a_folder_of_ones_own_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine\n")
    with pytest.raises(UserError, match="holds other data .* choose another --save_dir"):
        make_shapes(tmp_path, 2, 1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine\n"
