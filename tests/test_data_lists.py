"""Lists and the files they name: what is read, and the line that each mistake gives."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spml.data.lists import (
    check_samples,
    check_unique_names,
    duplicate_lines,
    given_entries,
    read_list,
    relative_path,
    split_list,
    write_list,
)
from spml.data.samples import DataError, Sample, read_sample_files
from spml.errors import UserError
from spml.files import write_atomically


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array))
    (image.convert(mode) if mode else image).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two samples of 4 x 6 pixels under a folder whose name holds a space."""
    root = tmp_path / "my data"
    for name, value in (("a", 10), ("b", 200)):
        save(root / f"im/{name}.png", np.full((4, 6, 3), value, np.uint8))
        save(root / f"gt/{name}.png", np.array([[0, 1, 2, 254, 255, 1]] * 4, np.uint8))
        save(root / f"seg/{name}.png", np.full((4, 6), 3, np.uint8))
    (root / "list.txt").write_text("im/a.png gt/a.png seg/a.png\nim/b.png gt/b.png seg/b.png\n")
    return root


def samples_of(folder, text, columns=0):
    (folder / "list.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_list(folder / "list.txt", folder, columns)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_columns(folder, columns):
    text = "\n".join(" ".join(f"{kind}/{name}.png" for kind in ("im", "gt", "seg")[:columns]) for name in "ab")
    samples = samples_of(folder, text, columns)
    assert [sample.name for sample in samples] == ["a", "b"]
    assert samples[1].image == folder / "im/b.png"
    assert samples[1].label == (folder / "gt/b.png" if columns > 1 else None)
    assert samples[1].regions == (folder / "seg/b.png" if columns > 2 else None)
    assert samples[1].line == 2 and len(samples[0].files) == columns


def test_windows_text_blank_lines_tabs_and_leading_slash(folder):
    samples = samples_of(folder, b"\xef\xbb\xbf/im/a.png\tgt/a.png  \r\n\r\n   \r\n/im/b.png gt/b.png\r\n")
    assert [(sample.image, sample.line) for sample in samples] == [(folder / "im/a.png", 1), (folder / "im/b.png", 4)]
    check_samples(samples, 3)


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", 0, "is empty"),
        (" \r\n\n", 0, "is empty"),
        ("im/a.png\n", 2, "list.txt line 1: no semantic label: expected 2 columns, got 1"),
        ("im/a.png gt/a.png\n", 3, "list.txt line 1: no instance label: expected 3 columns, got 2"),
        ("im/a.png\n\nim/my cat 1.png\n", 0, "line 3: got 3 columns, but 1 on the lines before"),
        (
            "im/my cat on mat.png\n",
            0,
            "line 1: expected at most 3 columns .* got 4; where paths hold spaces, separate the columns by tabs",
        ),
        (b"\xff\xfe\x00i", 0, "not UTF-8 text"),
    ],
)
def test_bad_lists(folder, text, columns, message):
    with pytest.raises(DataError, match=message) as caught:
        samples_of(folder, text, columns)
    assert "\n" not in str(caught.value)


def test_missing_list(tmp_path):
    with pytest.raises(DataError, match="cannot read the data list .*no.txt: No such file"):
        read_list(tmp_path / "no.txt", tmp_path)
    with pytest.raises(DataError, match="no data list is given"):
        read_list("", tmp_path)


def test_write_list_reads_back(folder):
    write_list(
        folder / "new/out.txt", [("im/a.png", folder.relative_to(folder) / "gt/a.png"), ("im/b.png", "gt/b.png")]
    )
    assert (folder / "new/out.txt").read_text() == "im/a.png gt/a.png\nim/b.png gt/b.png\n"
    assert len(read_list(folder / "new/out.txt", folder, 2)) == 2
    for row in (("a\tb.png",), ("a.png", ""), (), ("a", "b", "c", "d")):
        with pytest.raises(UserError, match="cannot write"):
            write_list(folder / "bad.txt", [row])
    assert not (folder / "bad.txt").exists()


@pytest.mark.parametrize("row", [("my cat.jpg", "gt/my cat.png"), ("my cat.jpg",), ("a.jpg", "b c.png", "d.png")])
def test_names_with_spaces_are_separated_by_tabs(tmp_path, row):
    write_list(tmp_path / "list.txt", [row, row])
    for sample in read_list(tmp_path / "list.txt", tmp_path, len(row)):
        assert [str(file.relative_to(tmp_path)) for file in sample.files] == list(row)


def test_write_atomically_leaves_nothing_behind(tmp_path):
    (tmp_path / "x").write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_atomically(tmp_path / "x", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_bytes() == b"old"
    with pytest.raises(UserError, match="cannot write"):
        write_atomically(tmp_path / "x" / "y", lambda file: None)


def test_unique_names(folder):
    samples = samples_of(folder, "im/a.png\nother/a.jpg\n")
    with pytest.raises(DataError, match=r"line 2: the name 'a' stands on line 1 too"):
        check_unique_names(samples)
    check_unique_names(samples[:1])


def test_check_counts_missing_files(folder):
    samples = samples_of(folder, "im/a.png gt/a.png\nim/b.png gt/x.png\nim/y.png gt/b.png\n")
    with pytest.raises(DataError, match=r"line 2: no file .*gt/x.png \(2 of the list's 6 files are missing\)"):
        check_samples(samples, 3)


def test_check_and_reading_name_sizes_that_differ(folder):
    save(folder / "gt/b.png", np.zeros((4, 5), np.uint8))
    samples = read_list(folder / "list.txt", folder)
    for check in (lambda: check_samples(samples, 3), lambda: read_sample_files(samples[1])):
        with pytest.raises(DataError, match=r"list.txt line 2: label .*gt/b.png is 5 x 4, but image .*b.png is 6 x 4"):
            check()


def test_check_and_reading_refuse_colour_labels(folder):
    save(folder / "seg/a.png", np.zeros((4, 6, 3), np.uint8))
    samples = read_list(folder / "list.txt", folder)
    for check in (lambda: check_samples(samples, 3), lambda: read_sample_files(samples[0])):
        with pytest.raises(DataError, match="list.txt line 1: label .*seg/a.png is a colour image .* grey PNG"):
            check()


@pytest.mark.parametrize("kind", ["im", "gt"])
def test_damaged_files(folder, kind):
    rng = np.random.default_rng(0)
    shape = (64, 64, 3) if kind == "im" else (64, 64)
    for other in ("im", "gt", "seg"):
        save(folder / other / "a.png", rng.integers(0, 3, (64, 64, 3) if other == "im" else (64, 64)).astype(np.uint8))
    path = save(folder / kind / "a.png", rng.integers(0, 3, shape).astype(np.uint8))
    sample = read_list(folder / "list.txt", folder)[0]
    read_sample_files(sample)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:20], b"", b"not an image"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"list.txt line 1: cannot read .*{kind}/a.png: .") as caught:
            read_sample_files(sample)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="list.txt line 1: cannot read"):
        check_samples([sample], 3)


def test_label_values(folder):
    samples = read_list(folder / "list.txt", folder)
    check_samples(samples, 3)
    save(folder / "gt/b.png", np.array([[0, 1, 3, 3, 3, 3]] * 4, np.uint8))  # one value: the release says unlabelled so
    check_samples(samples, 3)
    for name in "ab":
        save(folder / f"gt/{name}.png", np.full((4, 6), 100 + ord(name), np.uint8))
    with pytest.raises(DataError, match="no pixel of the semantic labels of .* is below num_classes 3: .* 197, 198"):
        check_samples(samples, 3)


def test_labels_that_are_all_unlabelled_index(folder):
    for name in "ab":
        save(folder / f"gt/{name}.png", np.full((4, 6), 2, np.uint8))
    samples = read_list(folder / "list.txt", folder)
    check_samples(samples, 3)
    with pytest.raises(DataError, match="no pixel of the semantic labels .* they hold 2"):
        check_samples(samples, 3, unlabelled_index=2)


def test_absolute_paths_where_the_file_is_there(folder, tmp_path):
    elsewhere = save(tmp_path / "elsewhere.png", np.zeros((4, 6, 3), np.uint8))
    samples = samples_of(folder, f"{elsewhere} gt/a.png\n/im/b.png /gt/b.png\n")
    assert [sample.image for sample in samples] == [elsewhere, folder / "im/b.png"]
    check_samples(samples, 3)
    assert given_entries(samples[0], folder, "image", "label", "regions") == ["../elsewhere.png", "gt/a.png"]


@pytest.mark.parametrize("line", ["im/a.png,gt/a.png", "im/a.png, gt/a.png", "im/a.png;gt/a.png;seg/a.png"])
def test_commas_between_columns(folder, line):
    with pytest.raises(DataError, match=r"list.txt line 1: columns are separated by white space, not by commas") as e:
        samples_of(folder, line + "\n")
    assert "expected `im/a.png gt/a.png" in str(e.value)


def test_commas_in_names_are_fine(folder):
    save(folder / "im/c,1.png", np.zeros((4, 6, 3), np.uint8))
    save(folder / "im/d.1,e.png", np.zeros((4, 6, 3), np.uint8))
    assert [sample.name for sample in samples_of(folder, "im/c,1.png\nim/d.1,e.png\n")] == ["c,1", "d.1,e"]
    assert samples_of(folder, "im/d.1,e.png\n")[0].name == "d.1,e"  # such a file is there


def test_duplicate_lines(folder):
    samples = samples_of(folder, "im/a.png gt/a.png\nim/b.png gt/b.png\nim/a.png gt/a.png\n")
    assert [(first.line, second.line) for first, second in duplicate_lines(samples)] == [(1, 3)]
    with pytest.raises(DataError, match="line 3: the same files stand on line 1 too"):
        check_unique_names(samples)
    assert duplicate_lines(samples[:2]) == []


def test_swapped_columns(folder):
    samples = samples_of(folder, "gt/a.png im/a.png\n")
    with pytest.raises(DataError, match="list.txt line 1: the columns of image and label look swapped"):
        check_samples(samples, 3)
    photo = np.random.default_rng(0).integers(0, 256, (40, 60)).astype(np.uint8)
    save(folder / "im/grey.png", photo)  # a grey photograph with a coloured mask is something else
    save(folder / "gt/colour.png", np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(DataError, match="label .*colour.png is a colour image"):
        check_samples(samples_of(folder, "im/grey.png gt/colour.png\n"), 3)


def test_arrays_are_checked_as_files_are():
    image, label = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.int64)
    good = Sample(image, label, label + 3, name="x")
    check_samples([good], 3)
    for sample, message in (
        (Sample(image, label[:2], name="x"), "sample 'x': label is 6 x 2, but image is 6 x 4"),
        (Sample(image, label.astype(float), name="x"), r"sample 'x': label: expected \(H, W\) integers, got"),
        (Sample(image.astype(float), label, name="x"), r"sample 'x': image: expected \(H, W, 3\) uint8, got"),
        (Sample(image, label + 7, name="x"), "no pixel of the semantic labels of the samples is below"),
    ):
        with pytest.raises(DataError, match=message):
            check_samples([sample], 3)
    with pytest.raises(DataError, match="the name 'x' stands on another sample too"):
        check_unique_names([good, Sample(image, name="x")])
    with pytest.raises(DataError, match="a data list cannot name an array"):
        given_entries(good, ".", "image")


def test_entries_relative_to_a_folder_that_is_a_link(tmp_path):
    """`..` of a linked folder is the parent of where the link points to; a linked file keeps its own name."""
    root, beside = tmp_path / "link", tmp_path / "elsewhere"
    save(tmp_path / "real/deep/images/a.png", np.ones((4, 4), np.uint8))
    save(beside / "a.png", np.ones((4, 4), np.uint8))
    root.symlink_to(tmp_path / "real/deep")
    (beside / "b.png").symlink_to(beside / "a.png")
    for path, entry in (
        (root / "images/a.png", "images/a.png"),
        (beside / "a.png", "../../elsewhere/a.png"),
        (beside / "b.png", "../../elsewhere/b.png"),
    ):
        assert relative_path(path, root) == entry and (root / entry).is_file()


def test_split_for_choosing(tmp_path):
    lines = [f"im/{number:02d}.png gt/{number:02d}.png" for number in range(14)]
    (tmp_path / "train.txt").write_text("\r\n".join(lines[::-1]) + "\n\n")
    dev, fit = split_list(tmp_path / "train.txt")
    assert (dev.name, fit.name) == ("train_dev.txt", "train_fit.txt")
    assert dev.read_text().splitlines() == [lines[0], lines[6], lines[12]]
    assert fit.read_text().splitlines() == [line for place, line in enumerate(lines) if place % 6]
    dev, fit = split_list(tmp_path / "train.txt", tmp_path / "lists", every=14)
    assert dev.parent == tmp_path / "lists" and len(fit.read_text().splitlines()) == 13
    folds = [split_list(tmp_path / "train.txt", tmp_path / str(part), every=3, part=part) for part in range(3)]
    assert folds[2][0].read_text().splitlines() == lines[2::3]
    assert sorted(line for dev, _ in folds for line in dev.read_text().splitlines()) == lines
    for dev, fit in folds:
        assert sorted((dev.read_text() + fit.read_text()).splitlines()) == lines
    for part in (-1, 3):
        with pytest.raises(DataError, match=f"--part: expected 0 to 2, got {part}"):
            split_list(tmp_path / "train.txt", every=3, part=part)
    for every in (1, 15):
        with pytest.raises(DataError, match=f"train.txt: expected 2 to 14 parts, as it has 14 lines, got {every}"):
            split_list(tmp_path / "train.txt", every=every)


def test_a_split_neither_repeats_an_image_nor_replaces_another_split(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(" \n")
    with pytest.raises(DataError, match="train.txt: expected at least 2 lines to split, got 0"):
        split_list(path)
    path.write_text("a.png 1.png\nb.png 2.png\na.png 3.png\n")
    with pytest.raises(DataError, match="train.txt: a.png stands on several lines; it would be in both parts"):
        split_list(path, every=2)
    path.write_text("a.png\nb.png\nc.png\n")
    first = [part.read_text() for part in split_list(path, every=2)]
    assert [part.read_text() for part in split_list(path, every=2)] == first
    with pytest.raises(
        DataError, match="train_dev.txt: holds other lines already: expected another --save_dir, or --ov"
    ):
        split_list(path, every=3)
    assert (tmp_path / "train_dev.txt").read_text() == first[0]
    assert split_list(path, every=3, overwrite=True)[0].read_text() == "a.png\n"


def test_the_script_that_splits(tmp_path, capsys):
    path = Path(__file__).parents[1] / "pyscripts" / "data" / "split.py"
    (tmp_path / "train.txt").write_text("".join(f"{number}.png\n" for number in range(7)))
    runpy.run_path(str(path))["main"](["--data_list", str(tmp_path / "train.txt"), "--every", "3"])
    assert capsys.readouterr().out.split() == [str(tmp_path / f"train_{name}.txt") for name in ("dev", "fit")]
    assert (tmp_path / "train_dev.txt").read_text() == "0.png\n3.png\n6.png\n"
