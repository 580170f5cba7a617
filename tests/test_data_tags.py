"""Tags from lists, VOC annotations and labels; each mistake is one line that names its place."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spml.config import load_config
from spml.data.annotate_list import annotate_list
from spml.data.dataset import build_training_dataset, build_training_loader, read_tagged_samples
from spml.data.needs import Needs
from spml.data.samples import DataError, Sample
from spml.data.tags import given_tag, read_tags

TAGS = Needs(columns=1, tags=True)
NAMES = ("background", "cow", "potted plant", "tv_monitor")


def sample(name, line=1):
    return Sample(f"{name}.png", line=line, list_path=Path("list.txt"))


def write(folder, text, name="tags.txt"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def read(path, names=("a",), classes=NAMES):
    return {name: tag.tolist() for name, tag in read_tags(path, [sample(n) for n in names], 4, classes).items()}


def test_indexes_names_and_images_without_any(tmp_path):
    path = write(tmp_path, "\ufeffa 1 3 1\r\nb Cow pottedplant\r\n\r\nc\nd.x TV-Monitor\nother 2\n")
    assert read(path, ("a", "b", "c", "d.x")) == {
        "a": [False, True, False, True],
        "b": [False, True, True, False],
        "c": [False] * 4,
        "d.x": [False, False, False, True],
    }
    assert read(write(tmp_path, "a 3\n"), classes=()) == {"a": [False, False, False, True]}


def test_a_name_goes_before_a_number(tmp_path):
    assert read(write(tmp_path, "a 1\n"), classes=("0", "3", "2", "1"))["a"] == [False, False, False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1\nb 1 cowe\n", r"tags.txt line 2: expected a class, 1 to 3 or its name, got 'cowe'; did you mean cow\?$"),
        ("a 4\n", r"line 1: expected a class, 1 to 3 or its name, got '4'$"),
        ("a 0\n", r"line 1: .* got '0' \(the background is no tag\)$"),
        ("a background\n", r"got 'background' \(the background is no tag\)$"),
        ("a -1\n", r"got '-1'$"),
        ("a 1\n\na 2\n", r"tags.txt line 3: 'a' has a line already"),
        ("x 1\n", r"tags.txt: no line for 'a' of list.txt line 1 \(1 of 1 images have none\)"),
        ("", r"no line for 'a'"),
    ],
)
def test_mistakes_in_a_list(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_names_without_known_classes(tmp_path):
    with pytest.raises(DataError, match=r"1 to 3 \(names need dataset.classes\), got 'cow'"):
        read(write(tmp_path, "a cow\n"), classes=())


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"dataset.tags .*gone.txt: expected a text file .*: No such file"):
        read(tmp_path / "gone.txt")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8 text"):
        read(tmp_path / "bytes")


def test_voc_annotations(tmp_path):
    inside = "<object><name>{}</name><difficult>1</difficult><part><name>head</name></part></object>"
    write(tmp_path, f"<annotation>{inside.format('cow')}{inside.format('pottedplant')}</annotation>", "a.xml")
    write(tmp_path, "<annotation></annotation>", "b.xml")
    assert read(tmp_path, ("a", "b")) == {"a": [False, True, True, False], "b": [False] * 4}
    with pytest.raises(DataError, match=r"no file .*c.xml for the image of list.txt line 1"):
        read(tmp_path, ("c",))
    with pytest.raises(DataError, match="XML holds names of classes: give theirs in a file dataset.classes"):
        read(tmp_path, ("a",), classes=())
    write(tmp_path, f"<annotation>{inside.format('cow')}{inside.format('cat')}</annotation>", "c.xml")
    with pytest.raises(DataError, match=r"c.xml object 2: expected a class, 1 to 3 or its name, got 'cat'"):
        read(tmp_path, ("c",))
    write(tmp_path, "<annotation>", "d.xml")
    with pytest.raises(DataError, match="cannot read .*d.xml as XML"):
        read(tmp_path, ("d",))


def test_what_the_annotator_writes_is_read_and_equals_the_tags_of_masks(tiny_data, tmp_path):
    annotate_list(tiny_data, tiny_data / "val.txt", tmp_path, "tag")
    config = load_config(None, [f"dataset.data_dir={tiny_data}", f"dataset.classes={tiny_data}/classes.txt"])
    config.dataset.train_data_list = str(tiny_data / "val.txt")
    from_masks = build_training_dataset(config, TAGS)
    assert from_masks.tags is None and from_masks.samples[0].label is not None
    images = "".join(line.split()[0] + "\n" for line in (tiny_data / "val.txt").read_text().splitlines())
    config.dataset.train_data_list = str(write(tmp_path, images, "images.txt"))  # no label column
    config.dataset.tags = str(tmp_path / "tags.txt")
    from_list = build_training_dataset(config, TAGS)
    for position in range(8):
        ours, theirs = from_list[position], from_masks[position]
        assert ours["name"] == theirs["name"]
        assert ours["semantic_tag"][1:].tolist() == theirs["semantic_tag"][1:].tolist()
        assert ours["image"].equal(theirs["image"])
        assert {*ours["semantic_label"].unique().tolist()} <= {254, 255}
    config.train.max_iteration, config.num_threads = 1, 0
    (batch,) = build_training_loader(config, TAGS)
    assert batch["semantic_tag"].shape == (config.train.batch_size, 4)


def test_files_of_unneeded_columns_need_not_exist(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    config = load_config(None, [f"dataset.data_dir={tmp_path}", "dataset.num_classes=4", "num_threads=0"])
    config.dataset.train_data_list = str(write(tmp_path, "a.png gone.png gone.png\n", "list.txt"))
    config.dataset.tags = str(write(tmp_path, "a 2\n"))
    samples, tags = read_tagged_samples(config.dataset)
    assert (
        samples[0].files == [tmp_path / "a.png"]
        and tags is not None
        and tags["a"].tolist() == [False, False, True, False]
    )
    build_training_loader(config, TAGS)


def test_no_tags_at_all_and_two_images_of_one_name(tmp_path):
    config = load_config(None, [f"dataset.data_dir={tmp_path}"])
    config.dataset.train_data_list = str(write(tmp_path, "a.png\n", "list.txt"))
    with pytest.raises(DataError, match=r"list.txt line 1: no tags: expected a file dataset.tags, or a semantic label"):
        read_tagged_samples(config.dataset)
    config.dataset.train_data_list = str(write(tmp_path, "x/a.png\ny/a.png\n", "list.txt"))
    config.dataset.tags = str(write(tmp_path, "a 2\n"))
    with pytest.raises(DataError, match="the name 'a' stands on line 1 too"):
        read_tagged_samples(config.dataset)


def test_tags_of_a_sample_itself_are_names_or_numbers():
    assert given_tag(Sample("a.png", tags=["potted plant", 1]), 4, NAMES).tolist() == [False, True, True, False]
    assert not given_tag(Sample("a.png"), 4).any()
    with pytest.raises(DataError, match="sample 'a': expected a class, 1 to 3 .names need dataset.classes., got 'cow'"):
        given_tag(Sample("a.png", tags=["cow"]), 4)
