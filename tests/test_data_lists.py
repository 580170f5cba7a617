"""Lists and the files they name: what is read, and the line that each mistake gives."""

import numpy as np
import pytest
from PIL import Image

from spml.data.lists import (
    IGNORE,
    UNLABELLED,
    DataError,
    check_samples,
    check_unique_names,
    read_image,
    read_label,
    read_list,
    read_sample_files,
    write_list,
)
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


def test_constants():
    assert (IGNORE, UNLABELLED) == (255, 254)
    assert issubclass(DataError, UserError)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_columns(folder, columns):
    text = "\n".join(" ".join(f"{kind}/{name}.png" for kind in ("im", "gt", "seg")[:columns]) for name in "ab")
    samples = samples_of(folder, text, columns)
    assert [sample.name for sample in samples] == ["a", "b"]
    assert samples[1].image == folder / "im/b.png"
    assert samples[1].semantic == (folder / "gt/b.png" if columns > 1 else None)
    assert samples[1].instance == (folder / "seg/b.png" if columns > 2 else None)
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
            "line 1: expected at most 3 columns .* got 4; paths in a list cannot hold spaces",
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
    for row in (("a b.png",), ("a.png", ""), (), ("a", "b", "c", "d")):
        with pytest.raises(UserError, match="cannot write"):
            write_list(folder / "bad.txt", [row])
    assert not (folder / "bad.txt").exists()


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


def test_label_values(folder, caplog):
    samples = read_list(folder / "list.txt", folder)
    check_samples(samples, 3, decode=True)
    assert not caplog.records
    save(folder / "gt/b.png", np.array([[0, 1, 3, 3, 3, 3]] * 4, np.uint8))  # one value: the released mark
    check_samples(samples, 3, decode=True)
    assert not caplog.records
    save(folder / "gt/b.png", np.array([[0, 1, 3, 4, 5, 255]] * 4, np.uint8))
    check_samples(samples, 3, unlabelled_index=5)
    assert len(caplog.records) == 1 and "hold 3, 4, which num_classes 3" in caplog.records[0].getMessage()
    for name in "ab":
        save(folder / f"gt/{name}.png", np.full((4, 6), 100 + ord(name), np.uint8))
    with pytest.raises(DataError, match="no pixel of the semantic labels of .* is below num_classes 3: .* 197, 198"):
        check_samples(samples, 3)


def test_images_of_every_kind(tmp_path):
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    colour = np.stack([grey, grey // 2, 255 - grey], axis=-1)
    alpha = np.concatenate([colour, np.full((4, 6, 1), 7, np.uint8)], axis=-1)
    expected = {
        "rgb.png": (save(tmp_path / "rgb.png", colour), colour),
        "rgba": (save(tmp_path / "rgba.png", alpha), colour),
        "grey": (save(tmp_path / "grey.png", grey), np.stack([grey] * 3, -1)),
        "16": (save(tmp_path / "16.png", grey.astype(np.uint16) * 256 + 9), np.stack([grey] * 3, -1)),
        "1": (save(tmp_path / "1.png", grey > 100), np.stack([(grey > 100) * np.uint8(255)] * 3, -1)),
    }
    for path, image in expected.values():
        read = read_image(path)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, image)
    palette = read_image(save(tmp_path / "p.png", colour, "P"))
    assert palette.shape == (4, 6, 3)
    assert read_image(save(tmp_path / "cmyk.jpg", colour, "CMYK")).shape == (4, 6, 3)
    save(tmp_path / "f.tif", grey.astype(np.float32))
    with pytest.raises(DataError, match="float values"):
        read_image(tmp_path / "f.tif")


def test_exif_orientation_is_not_applied(tmp_path):
    image = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (4, 6, 3)


def test_labels_of_every_kind(tmp_path):
    label = np.array([[0, 1, 20], [254, 255, 3]], np.uint8)
    palette = Image.new("P", (3, 2))
    palette.putdata(label.ravel().tolist())
    palette.putpalette(list(range(255, -1, -1)) * 3)
    palette.save(tmp_path / "p.png")
    for path in (
        save(tmp_path / "l.png", label),
        tmp_path / "p.png",
        save(tmp_path / "16.png", label.astype(np.uint16)),
        save(tmp_path / "32.tif", label.astype(np.int32)),
    ):
        read = read_label(path)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, label)
    np.testing.assert_array_equal(read_label(save(tmp_path / "1.png", label > 2)), label > 2)
    save(tmp_path / "big.png", np.array([[0, 256]], np.uint16))
    with pytest.raises(DataError, match=r"x line 3: label .*big.png has values 0 to 256: expected 0 to 255"):
        read_label(tmp_path / "big.png", "x line 3")
    with pytest.raises(DataError, match="cannot read label .*none.png: no such file"):
        read_label(tmp_path / "none.png")
