"""Samples as files and as arrays: what is read, and the line that each mistake gives."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from spml.data.lists import check_samples
from spml.data.samples import (
    IGNORE,
    UNLABELLED,
    DataError,
    Sample,
    image_size,
    named,
    read_image,
    read_label,
    read_sample_files,
)
from spml.errors import UserError

TURNED = 6  # the EXIF orientation of a photo taken upright: stored lying on its side


def save(path, array, mode=None, **options):
    image = Image.fromarray(np.asarray(array))
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_constants():
    assert (IGNORE, UNLABELLED) == (255, 254)
    assert issubclass(DataError, UserError)


def test_a_sample_of_paths_and_one_of_arrays(tmp_path):
    image, label = np.zeros((4, 6, 3), np.uint8), np.full((4, 6), 254)
    files = Sample(str(tmp_path / "x.y.png"), save(tmp_path / "l.png", label.astype(np.uint8)), tags=[1, "cow"])
    assert (files.name, files.tags, files.where) == ("x.y", (1, "cow"), "sample 'x.y'")
    assert files.files == [tmp_path / "x.y.png", tmp_path / "l.png"] and files.image_path == files.image
    arrays = Sample(image, label, regions=label > 0)
    assert arrays.files == [] and arrays.name == ""
    read = read_sample_files(arrays)
    assert read[0] is image and [part.dtype for part in read[1:]] == [np.uint8] * 2
    assert (read[1] == 254).all() and (read[2] == 1).all()
    assert [sample.name for sample in named([files, arrays, replace(arrays, name="z")])] == ["x.y", "00001", "z"]
    with pytest.raises(DataError, match="expected an image file, got an array"):
        _ = arrays.image_path
    again = pickle.loads(pickle.dumps(files))
    assert (again.image, again.tags, again.name) == (files.image, files.tags, files.name)


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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, :24], stored[16:, :24], stored[:16, 24:] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    options = {"quality": 100} if suffix in ("jpg", "webp") else {}
    path = save(tmp_path / f"photo.{suffix}", stored, exif=exif_of(orientation), **options)
    turn = {  # what a viewer does, in words of arrays
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }[orientation]
    upright = turn(stored)
    read = read_image(path)
    assert read.shape == upright.shape and image_size(path) == upright.shape[:2]
    assert np.abs(read[4:-4, 4:-4].astype(int) - upright[4:-4, 4:-4]).mean() < 12
    label = save(tmp_path / "label.png", np.zeros(upright.shape[:2], np.uint8))
    check_samples([Sample(path, label)], 3)
    read_sample_files(Sample(path, label))


def test_a_label_of_the_stored_size_is_an_error_that_names_the_orientation(tmp_path):
    path = save(tmp_path / "photo.jpg", np.zeros((4, 6, 3), np.uint8), exif=exif_of(TURNED))
    sample = Sample(path, save(tmp_path / "label.png", np.zeros((4, 6), np.uint8)))
    for check in (lambda: check_samples([sample], 3), lambda: read_sample_files(sample)):
        with pytest.raises(DataError, match="label.png is 6 x 4, but image .* is 4 x 6, turned as its EXIF"):
            check()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_as_none(tmp_path):
    path = save(tmp_path / "x.jpg", np.zeros((4, 6, 3), np.uint8), exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert read_image(path).shape == (4, 6, 3) and image_size(path) == (4, 6)


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


def test_jpeg_labels_are_refused(tmp_path):
    image = save(tmp_path / "x.png", np.zeros((8, 8, 3), np.uint8))
    label = save(tmp_path / "label.jpg", np.eye(8, dtype=np.uint8))
    with pytest.raises(DataError, match=r"label .*label.jpg is a JPEG, whose compression changes class numbers"):
        read_label(label)
    with pytest.raises(DataError, match="sample 'x': label .* is a JPEG"):
        check_samples([Sample(image, label)], 3)
