"""Scores and labels from CAMs."""

import numpy as np
import pytest

from spml.propagate.cam import box_label, cam_scores, foreground_classes, tag_label


def row(*values):
    return np.array([values], np.float32)


def test_the_background_is_what_the_classes_leave():
    score = cam_scores({0: row(0, 0.5, 1), 2: row(0.2, 0.1, 0)}, 4, (1, 3))
    assert score.shape == (4, 1, 3)
    np.testing.assert_allclose(score[0, 0], [0.8**6, 0.5**6, 0], rtol=1e-6)
    np.testing.assert_array_equal(score[1, 0], row(0, 0.5, 1)[0])
    assert (score[2] == 0).all()
    np.testing.assert_array_equal(score[3, 0], row(0.2, 0.1, 0)[0])
    np.testing.assert_allclose(cam_scores({0: row(0.5)}, 2, (1, 1), alpha=2)[0, 0, 0], 0.25)


def test_no_class_is_background():
    assert (cam_scores({}, 3, (2, 5))[0] == 1).all()
    assert (tag_label({}, 3, (2, 5)) == 0).all()


@pytest.mark.parametrize(
    ("cams", "words"), [({3: row(1)}, "0 to 2, got 3"), ({0: row(1, 1)}, r"\(1, 1\) as the image")]
)
def test_what_the_scores_refuse(cams, words):
    with pytest.raises(ValueError, match=words):
        cam_scores(cams, 4, (1, 1))


def test_tag_labels_take_the_best_class_over_the_threshold():
    cams = {0: row(0.05, 0.30, 0.20, 0.45), 1: row(0.0, 0.25, 0.9, 0.45)}
    np.testing.assert_array_equal(tag_label(cams, 3, (1, 4)), [[0, 1, 2, 1]])  # the first of equal ones
    np.testing.assert_array_equal(tag_label(cams, 3, (1, 4), threshold=0.4), [[0, 254, 2, 1]])


def test_at_alpha_6_the_released_threshold_leaves_no_pixel_out():
    cam = np.linspace(0, 1, 1001, dtype=np.float32)[None]
    label = tag_label({0: cam}, 2, cam.shape)
    assert set(label.ravel().tolist()) == {0, 1}
    assert (tag_label({0: cam}, 2, cam.shape, threshold=0.23) == 254).any()


def test_box_labels_are_relative_to_their_box():
    cam = np.tile(np.arange(6, dtype=np.float32) / 100, (3, 1))  # rises to the right, weakly
    label = box_label({1: cam}, [(2, 1, 0, 4, 2)], (3, 6))
    expected = np.zeros((3, 6), np.uint8)
    expected[:2, 1:4] = [254, 2, 2]  # 0, 0.5 and 1 inside the box
    np.testing.assert_array_equal(label, expected)


def test_overlapping_boxes_the_stronger_wins_and_the_weaker_takes_the_rest():
    left, right = row(1, 0.9, 0.5, 0), row(0, 0.1, 0.6, 1)
    np.testing.assert_array_equal(
        box_label({0: left, 1: right}, [(1, 0, 0, 4, 1), (2, 0, 0, 4, 1)], (1, 4)), [[1, 1, 2, 2]]
    )
    np.testing.assert_array_equal(
        box_label({0: left, 1: right}, [(2, 0, 0, 4, 1), (1, 0, 0, 4, 1)], (1, 4)), [[1, 1, 2, 2]]
    )


def test_boxes_without_a_cam_outside_or_flat():
    flat = np.full((2, 3), 0.7, np.float32)
    label = box_label({0: flat}, [(1, 0, 0, 1, 2), (3, 1, 0, 2, 9), (1, -4, -4, 0, 0), (1, 5, 0, 9, 2)], (2, 3))
    np.testing.assert_array_equal(label, [[254, 254, 0]] * 2)


def test_any_class_or_none_may_be_the_background():
    rng = np.random.default_rng(0)
    cams = {index: rng.random((4, 5), dtype=np.float32) for index in (0, 2)}
    score = cam_scores(cams, 4, (4, 5), background=1)  # foreground classes 0, 2, 3
    np.testing.assert_array_equal(score[0].numpy(), cams[0])
    np.testing.assert_array_equal(score[3].numpy(), cams[2])
    np.testing.assert_allclose(score[1].numpy(), (1 - np.maximum(cams[0], cams[2])) ** 6, rtol=1e-5)
    score = cam_scores(cams, 4, (4, 5), background=None)
    np.testing.assert_array_equal(score[0].numpy(), cams[0])
    np.testing.assert_array_equal(score[2].numpy(), cams[2])
    assert not score[[1, 3]].any()
    with pytest.raises(ValueError, match="indexes 0 to 3, got 4"):
        cam_scores({4: cams[0]}, 4, (4, 5), background=None)
    assert foreground_classes(4) == [1, 2, 3] and foreground_classes(3, None) == [0, 1, 2]


def test_no_background_leaves_pixels_unlabelled():
    cam = np.array([[0.0, 0.1, 0.3]], np.float32)
    assert tag_label({1: cam}, 3, (1, 3), background=None).tolist() == [[254, 254, 1]]
    assert tag_label({1: cam}, 3, (1, 3), background=None, threshold=0).tolist() == [[254, 1, 1]]
    assert tag_label({}, 3, (1, 3), background=None).tolist() == [[254] * 3]
    boxes = [(0, 1, 0, 3, 1)]
    assert box_label({0: cam}, boxes, (1, 3), background=None).tolist() == [[254, 254, 0]]
    assert box_label({0: cam}, boxes, (1, 3), background=2).tolist() == [[2, 254, 0]]
    assert box_label({0: cam}, [(1, 1, 0, 3, 1)], (1, 3)).tolist() == [[0, 254, 1]]
