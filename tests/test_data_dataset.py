"""The training loader: same seed, same batches, for any workers, from any step, on any number of processes."""

import numpy as np
import pytest
import torch
from easydict import EasyDict
from PIL import Image

from spml.config import load_config
from spml.data.dataset import PositionSampler, build_training_dataset, build_training_loader, read_sample
from spml.data.lists import read_list
from spml.data.needs import Needs
from spml.data.samples import DataError

NUM_CLASSES = 5


@pytest.fixture
def config(tmp_path) -> EasyDict:
    """Seven images of different sizes with three columns, and a short run on them."""
    rng = np.random.default_rng(0)
    lines = []
    for index in range(7):
        size = (int(rng.integers(20, 50)), int(rng.integers(20, 50)))
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(tmp_path / f"{index}.png")
        for kind, high in (("gt", NUM_CLASSES), ("seg", 9)):
            Image.fromarray(rng.integers(0, high, size).astype(np.uint8)).save(tmp_path / f"{kind}{index}.png")
        lines.append(f"{index}.png gt{index}.png seg{index}.png\n")
    (tmp_path / "train.txt").write_text("".join(lines))
    return load_config(
        None,
        [
            f"dataset.data_dir={tmp_path}",
            f"dataset.train_data_list={tmp_path}/train.txt",
            f"dataset.num_classes={NUM_CLASSES}",
            "train.crop_size=[32,32]",
            "train.batch_size=3",
            "train.warmup_iteration=0",
            "train.max_iteration=6",
            "network.kmeans_num_clusters=[6,6]",
            "num_threads=0",
        ],
    )


def batches(config, **options):
    return list(build_training_loader(config, **options))


def assert_equal(one, other):
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        assert first["name"] == second["name"]
        assert all(torch.equal(first[key], second[key]) for key in first if key != "name")


def test_a_batch(config):
    loader = build_training_loader(config)
    assert len(loader) == 6
    batch = next(iter(loader))
    shapes = {key: (tuple(value.shape), value.dtype) for key, value in batch.items() if key != "name"}
    assert shapes == {
        "image": ((3, 3, 32, 32), torch.float32),
        "semantic_label": ((3, 32, 32), torch.int64),
        "instance_label": ((3, 32, 32), torch.int64),
        "inside": ((3, 32, 32), torch.bool),
        "semantic_tag": ((3, NUM_CLASSES), torch.bool),
    }
    assert len(batch["name"]) == 3 and all(isinstance(name, str) for name in batch["name"])


@pytest.mark.parametrize("needs", [Needs(instance=True), Needs(scale=(0.5, 2.0), grey=0.3, blur=0.5)])
def test_workers_do_not_change_the_batches(config, needs):
    alone = batches(config, needs=needs)
    config.num_threads = 2
    state = torch.get_rng_state()
    assert_equal(alone, batches(config, needs=needs))
    assert torch.equal(state, torch.get_rng_state())  # or resuming would not be exact


def test_start_in_the_middle(config):
    whole = batches(config)
    assert_equal(whole[4:], batches(config, start_step=4))
    assert batches(config, start_step=6) == []


def test_ranks_share_the_images_of_one_process(config):
    config.train.max_iteration, config.train.batch_size = 3, 4
    one = batches(config)
    config.train.batch_size = 2
    ranks = [batches(config, rank=rank, world_size=2) for rank in (0, 1)]
    for step in range(3):
        for key in ("image", "semantic_label", "instance_label", "semantic_tag"):
            assert torch.equal(one[step][key], torch.cat([ranks[0][step][key], ranks[1][step][key]]))


def test_positions():
    assert list(PositionSampler(2, 4, 3, rank=1, world_size=2)) == [[15, 16, 17], [21, 22, 23]]


def test_epochs_are_permutations_and_the_seed_counts(config):
    dataset = build_training_dataset(config)
    epochs = [[dataset.sample_at(position).line for position in range(7 * e, 7 * e + 7)] for e in range(3)]
    assert all(sorted(epoch) == list(range(1, 8)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [dataset.sample_at(position).line for position in range(7)] == epochs[0]  # any order of asking
    first = batches(config)[0]
    config.train.seed = 1
    assert not torch.equal(first["image"], batches(config)[0]["image"])
    config.train.shuffle = False
    dataset = build_training_dataset(config)
    assert [dataset.sample_at(position).line for position in range(9)] == [1, 2, 3, 4, 5, 6, 7, 1, 2]


def test_the_same_sample_is_augmented_anew(config):
    config.train.shuffle = False
    dataset = build_training_dataset(config)
    assert dataset[0]["name"] == dataset[7]["name"]
    assert not torch.equal(dataset[0]["image"], dataset[7]["image"])


def test_all_augmentation_off_is_the_image(config, tmp_path):
    config.train.update(random_mirror=False, random_scale=False, random_crop=False, shuffle=False, crop_size=[64, 64])
    item = build_training_dataset(config)[0]
    label = np.array(Image.open(tmp_path / "gt0.png"))
    top, left = (-((size - 64) // 2) for size in label.shape)
    inside = item["semantic_label"] != 255
    expected = torch.zeros(64, 64, dtype=torch.bool)
    expected[top : top + label.shape[0], left : left + label.shape[1]] = True
    assert torch.equal(inside, expected) and torch.equal(item["inside"], expected)
    assert item["semantic_label"][inside].tolist() == label.ravel().tolist()
    assert (item["instance_label"][~inside] == 255).all() and (item["image"][:, ~inside] == 0).all()
    assert (item["image"][:, inside] != 0).any()


def test_image_size_sets_the_longest_side(config):
    config.train.update(random_mirror=False, random_scale=False, random_crop=False, image_size=24)
    inside = build_training_dataset(config)[0]["semantic_label"] != 255
    assert max(inside.any(0).sum(), inside.any(1).sum()) == 24


def test_tags_are_those_of_the_whole_image(config, tmp_path):
    label = np.full((40, 40), 254, np.uint8)
    label[0, 0], label[39, 39], label[20, 20] = 0, 4, 255
    Image.fromarray(label).save(tmp_path / "gt0.png")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "0.png")
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "seg0.png")
    config.train.update(shuffle=False, random_crop=False, random_scale=False, crop_size=[8, 8])
    item = build_training_dataset(config)[0]
    assert item["semantic_tag"].tolist() == [True, False, False, False, True]
    assert set(item["semantic_label"].unique().tolist()) == {254, 255}


def test_unlabelled_index_255_differs_from_padding(config, tmp_path):
    label = np.full((10, 12), 255, np.uint8)
    label[3, 3] = 2
    Image.fromarray(label).save(tmp_path / "gt0.png")
    Image.fromarray(np.zeros((10, 12, 3), np.uint8)).save(tmp_path / "0.png")
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(tmp_path / "seg0.png")
    config.dataset.unlabelled_index = 255
    config.train.update(shuffle=False, random_scale=False)
    labels = build_training_dataset(config)[0]["semantic_label"]
    assert [(labels == value).sum().item() for value in (2, 254, 255)] == [1, 119, 32 * 32 - 120]
    sample = read_list(tmp_path / "train.txt", tmp_path)[0]
    assert set(read_sample(sample, (0, 0, 0), (1, 1, 1), 255).semantic.unique().tolist()) == {2, 254}


def test_densepose_mirrors_parts(config, tmp_path):
    config.dataset.update(dataset="Densepose", num_classes=15)
    Image.fromarray(np.full((32, 32), 4, np.uint8)).save(tmp_path / "gt0.png")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "0.png")
    Image.fromarray(np.arange(32 * 32).reshape(32, 32).astype(np.uint8) % 32).save(tmp_path / "seg0.png")
    config.train.update(shuffle=False, random_scale=False)
    dataset = build_training_dataset(config)
    seen = set()
    for position in range(0, 140, 7):
        item = dataset[position]
        mirrored = item["instance_label"][0, 0].item() == 31
        assert item["semantic_label"].unique().tolist() == [5 if mirrored else 4]
        assert item["semantic_tag"].nonzero().tolist() == [[5 if mirrored else 4]]
        seen.add(mirrored)
    assert seen == {True, False}


def test_two_columns_give_instance_zero(config, tmp_path):
    (tmp_path / "train.txt").write_text("0.png gt0.png\n1.png gt1.png\n")
    config.train.crop_size = [64, 64]
    item = build_training_dataset(config)[0]
    assert torch.equal(item["instance_label"] == 255, item["semantic_label"] == 255)
    assert set(item["instance_label"].unique().tolist()) == {0, 255}


def test_one_column_cannot_train(config, tmp_path):
    (tmp_path / "train.txt").write_text("0.png\n")
    with pytest.raises(DataError, match="train.txt line 1: no semantic label"):
        build_training_loader(config)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_later_gives_one_line(config, tmp_path, workers):
    config.num_threads = workers
    loader = build_training_loader(config)
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"^\S*train.txt line 4: cannot read image \S*3.png: ") as caught:
        list(loader)
    assert "\n" not in str(caught.value)


def test_missing_files_before_the_first_step(config, tmp_path):
    (tmp_path / "seg5.png").unlink()
    with pytest.raises(DataError, match="train.txt line 6: no file .*seg5.png"):
        build_training_loader(config)


def test_read_sample(config, tmp_path):
    sample = read_list(tmp_path / "train.txt", tmp_path)[2]
    read = read_sample(sample, config.network.pixel_means, config.network.pixel_stds)
    pixels = np.array(Image.open(tmp_path / "2.png"))
    assert read.name == "2" and read.image.dtype == torch.float32
    np.testing.assert_array_equal(read.pixels, pixels)
    reference = (pixels / 255 - config.network.pixel_means) / config.network.pixel_stds
    np.testing.assert_allclose(read.image, reference.transpose(2, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(read.semantic, np.array(Image.open(tmp_path / "gt2.png")))
    (tmp_path / "bare.txt").write_text("2.png\n")
    bare = read_sample(read_list(tmp_path / "bare.txt", tmp_path)[0], (0, 0, 0), (1, 1, 1))
    assert bare.semantic is None and bare.instance is None
