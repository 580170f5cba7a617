"""Heat over images."""

import numpy as np
from PIL import Image

from spml.visualize.heat import COLOURS, cam_picture, heat, heat_overlay


def test_heat_goes_from_cold_to_hot():
    found = heat(np.array([[0.0, 0.125, 0.25, 1.0]]))
    np.testing.assert_array_equal(found[0, [0, 2, 3]], COLOURS[[0, 1, 4]])
    np.testing.assert_array_equal(found[0, 1], [25, 65, 145])  # half way between the first two
    assert found.dtype == np.uint8 and heat(np.zeros((3, 5))).shape == (3, 5, 3)


def test_the_image_shows_through_in_grey():
    image = np.full((1, 2, 3), (30, 60, 90), np.uint8)
    cam = np.array([[0.0, 1.0]])
    np.testing.assert_array_equal(heat_overlay(image, cam, alpha=0), np.full((1, 2, 3), 60))
    np.testing.assert_array_equal(heat_overlay(image, cam, alpha=1), heat(cam))
    np.testing.assert_array_equal(heat_overlay(image, cam, 0.5)[0, 1], np.rint((60 + COLOURS[4]) / 2))


def test_a_row_has_a_cell_for_each_class_and_label(tmp_path):
    image = np.zeros((20, 40, 3), np.uint8)
    widths = []
    for cams in ({}, {0: np.zeros((20, 40))}, {0: np.zeros((20, 40)), 2: np.ones((20, 40))}):
        labels = {"label": np.zeros((20, 40), np.uint8)}
        cam_picture(image, cams, labels, tmp_path / "picture.png", ["background", "a", "b", "c"], cell_height=50)
        with Image.open(tmp_path / "picture.png") as picture:
            widths.append(picture.width)
    assert widths[2] - widths[1] == widths[1] - widths[0] >= 100
