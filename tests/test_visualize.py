"""Colours, borders and sheets of pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from spml.visualize import (
    PictureRow,
    class_palette,
    colourise,
    draw_borders,
    embedding_to_rgb,
    embeddings_to_rgb,
    grid,
    legend,
    mean_colours,
    overlay,
    quickstart_picture,
    table,
    voc_palette,
)


def test_palette_is_vocs():
    palette = voc_palette()
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 7: (128, 128, 128), 15: (192, 128, 128), 20: (0, 64, 128)}
    for index, colour in {**known, 255: (224, 224, 192)}.items():
        assert tuple(palette[index]) == colour
    assert palette.dtype == np.uint8 and len({tuple(colour) for colour in palette.tolist()}) == 256
    assert voc_palette(21).shape == (21, 3)
    assert (colourise(np.array([[2, 255]])) == palette[[[2, 255]]]).all()


def test_palette_without_a_background():
    palette, without, other = voc_palette(), class_palette(None), class_palette(3)
    assert (without[:254] == palette[1:255]).all() and (without[254:] == palette[254:]).all()
    assert (without[:254].max(1) > 0).all()  # none is black
    assert (other[3] == 0).all() and (other[0] == palette[3]).all() and (other[4:] == palette[4:]).all()
    assert (class_palette() == palette).all()
    image = np.full((1, 1, 3), 100, np.uint8)
    assert (overlay(image, np.zeros((1, 1), int), 1.0, background=None) == palette[1]).all()


def test_embedding_colours_keep_likeness_and_do_not_depend_on_signs():
    region = np.zeros((20, 30), dtype=int)
    region[:, 10:], region[10:, 20:] = 1, 2
    vectors = np.random.default_rng(0).normal(size=(3, 8))
    embedding = np.moveaxis(vectors[region], -1, 0)  # (8, 20, 30)
    colours = embedding_to_rgb(embedding)
    assert colours.shape == (20, 30, 3) and colours.dtype == np.uint8
    assert len({tuple(colour) for colour in colours.reshape(-1, 3).tolist()}) == 3
    assert (embedding_to_rgb(torch.tensor(embedding, requires_grad=True)) == colours).all()
    assert (embedding_to_rgb(embedding + 5) == colours).all()


def test_embeddings_of_several_images_share_colours():
    left, right = np.random.default_rng(1).normal(size=(2, 5, 6, 7))
    right[:, 0, 0] = left[:, 2, 3]
    first, second = embeddings_to_rgb([left, right[:, :4]])
    assert first.shape == (6, 7, 3) and second.shape == (4, 7, 3)
    assert (first[2, 3] == second[0, 0]).all()


@pytest.mark.parametrize("embedding", [np.full((6, 3, 4), 0.1), np.zeros((1, 3, 4)), np.ones((2, 1, 1))])
def test_embeddings_without_variance_are_grey(embedding):
    assert set(embedding_to_rgb(embedding).reshape(-1).tolist()) <= {127, 128}


def test_overlay_leaves_pixels_without_label():
    image = np.full((1, 4, 3), 100, dtype=np.uint8)
    mixed = overlay(image, np.array([[1, 0, 254, 255]]), alpha=0.5)
    assert mixed[0].tolist() == [[114, 50, 50], [50, 50, 50], [100, 100, 100], [100, 100, 100]]
    assert mixed.dtype == np.uint8


def test_borders_stand_between_segments():
    ids = np.array([[1, 1, 300], [1, 1, 300], [2, 2, 300]])
    image = np.zeros((3, 3, 3), dtype=np.uint8)
    painted = draw_borders(image, ids, (9, 8, 7))
    assert (painted[..., 0] == 9).tolist() == [[False, True, False], [True, True, False], [False, True, False]]
    assert not image.any()  # a copy was painted
    assert not draw_borders(image, np.zeros((3, 3), int)).any()


def test_mean_colours():
    image = np.array([[[10, 0, 0], [20, 0, 0], [7, 8, 9]]], dtype=np.uint8)
    assert mean_colours(image, np.array([[500, 500, 3]]))[0].tolist() == [[15, 0, 0], [15, 0, 0], [7, 8, 9]]


def test_grid_places_pictures_of_different_sizes():
    red, blue = np.zeros((10, 20, 3), np.uint8), np.zeros((40, 20, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 200
    sheet = grid([[red, blue], [blue, red]], ["left", "a title that is far too long"], cell_height=40)
    both = [(sheet == colour).all(2).sum() for colour in ([200, 0, 0], [0, 0, 200])]
    assert both == [2 * 40 * 80, 2 * 40 * 20]
    assert (sheet.min(2) < 100)[:12].any()  # titles are there
    with pytest.raises(ValueError, match=r"expected 2 pictures in each row, got \[1\]"):
        grid([[red]], ["a", "b"])
    with pytest.raises(ValueError, match="got \\[\\]"):
        grid([], ["a"])


def test_legend_breaks_lines():
    colours = voc_palette(12)[1:]
    wide, narrow = legend(["class"] * 11, colours, 2000), legend(["class"] * 11, colours, 150)
    assert wide.shape[1] == 2000 and narrow.shape[1] == 150 and narrow.shape[0] > 3 * wide.shape[0]
    for colour in colours:
        assert (narrow == colour).all(2).any()


def make_row(height, width, baseline=None):
    rng = np.random.default_rng(height)
    label = np.zeros((height, width), dtype=np.uint8)
    label[: height // 2] = 2
    annotation = np.full_like(label, 254)
    annotation[0, :2] = 2
    return PictureRow(
        image=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        annotation=annotation,
        oversegmentation=label.astype(int) + 300,
        embedding=torch.randn(8, height // 4, width // 4),
        segments=label,
        prediction=label,
        truth=np.where(np.arange(width) < 3, 255, label),
        baseline=label if baseline else None,
    )


def test_quickstart_picture(tmp_path):
    classes = ["background", "never seen", "ball"]
    quickstart_picture([make_row(32, 48), make_row(40, 24)], tmp_path / "new/plain.png", classes, cell_height=64)
    quickstart_picture([make_row(32, 48, baseline=True)], tmp_path / "new/both.png", classes, cell_height=64)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["both.png", "plain.png"]
    with Image.open(tmp_path / "new/plain.png") as plain, Image.open(tmp_path / "new/both.png") as both:
        assert both.width - plain.width == 64 * 48 // 32 + 6  # one column more
        assert plain.height > both.height > 64
        colours = {colour for _, colour in plain.convert("RGB").getcolors(10**6)}
    assert tuple(voc_palette()[2]) in colours and tuple(voc_palette()[1]) not in colours
    for rows in ([], [make_row(8, 8), make_row(8, 8, baseline=True)]):
        with pytest.raises(ValueError, match="all have a baseline or none"):
            quickstart_picture(rows, tmp_path / "none.png", classes)
    assert not (tmp_path / "none.png").exists()


def test_table():
    assert table([("a", 1), ("bcd", "22.5")], ("class", "IoU")).splitlines() == [
        "class   IoU",
        "-----  ----",
        "a         1",
        "bcd    22.5",
    ]
    assert table([], ("x",)) == "x\n-"
    with pytest.raises(ValueError, match="expected 2 cells"):
        table([("a",)], ("b", "c"))
