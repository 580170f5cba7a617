"""Augmentation against slow references and by what it must keep."""

import numpy as np
import pytest

from spml.data.augment import (
    DENSEPOSE_SWAP,
    Augmentation,
    augment,
    cut,
    draw_window,
    gaussian_blur,
    mirror,
    normalise,
    pad_label,
    random_scale,
    resize_longest_side,
    to_grey,
)

MEANS, STDS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def scene(height=20, width=30, seed=0):
    """An image whose red channel equals its semantic label and whose green channel equals its instance label."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 250, (height, width, 3)).astype(np.uint8)
    return image, image[..., 0].copy(), image[..., 1].copy()


def test_densepose_swap_is_the_released_one():
    pairs = {2: 3, 4: 5, 6: 7, 8: 9, 10: 11, 12: 13}
    both = pairs | {right: left for left, right in pairs.items()}
    assert [int(value) for value in DENSEPOSE_SWAP] == [both.get(value, value) for value in range(256)]


def test_mirror():
    image, semantic, instance = scene()
    semantic[0, :4] = [2, 14, 255, 7]
    flipped = mirror(image, semantic, instance, swap_parts=True)
    assert flipped[1][0, -4:].tolist() == [6, 255, 14, 3]
    np.testing.assert_array_equal(flipped[2], instance[:, ::-1])
    for back, array in zip(mirror(*flipped, swap_parts=True), (image, semantic, instance), strict=True):
        np.testing.assert_array_equal(back, array)
    np.testing.assert_array_equal(mirror(image, semantic, instance)[1], semantic[:, ::-1])


@pytest.mark.parametrize(("shape", "expected"), [((20, 30), (40, 60)), ((30, 20), (60, 40)), ((1, 300), (1, 60))])
def test_resize_longest_side(shape, expected):
    image, semantic, instance = scene(*shape)
    resized, labels = resize_longest_side(image, (semantic, instance), 60)
    assert resized.shape == (*expected, 3) and resized.dtype == np.uint8
    for label, original in zip(labels, (semantic, instance), strict=True):
        assert label.shape == expected
        assert set(np.unique(label)) <= set(np.unique(original))  # no value is blended
    if shape == (20, 30):  # doubled
        np.testing.assert_array_equal(labels[0], np.kron(semantic, np.ones((2, 2), np.uint8)))


def test_random_scale_stays_in_range():
    image, semantic, _ = scene(100, 200)
    factors = [
        random_scale(image, (semantic,), np.random.default_rng(i), 0.5, 2.0)[0].shape[1] / 200 for i in range(200)
    ]
    assert 0.5 <= min(factors) < 0.55 and 1.9 < max(factors) <= 2.0
    assert abs(np.mean(factors) - 1.25) < 0.1


def test_windows_reach_every_place_and_the_centre():
    rng = np.random.default_rng(0)
    drawn = {draw_window((5, 2), (3, 4), rng) for _ in range(200)}
    assert drawn == {(top, left) for top in (0, 1, 2) for left in (-2, -1, 0)}
    assert draw_window((10, 4), (4, 10), None) == (3, -3)


@pytest.mark.parametrize("random_crop", [True, False])
@pytest.mark.parametrize("crop", [(8, 8), (20, 30), (40, 16), (64, 64)])
def test_image_and_labels_stay_aligned_and_padding_is_the_mean(crop, random_crop):
    image, semantic, instance = scene()
    how = Augmentation(crop_size=crop, random_crop=random_crop)
    for seed in range(8):
        part, part_semantic, part_instance, start, _ = augment(
            image, semantic, instance, how, np.random.default_rng(seed)
        )
        tensor = normalise(part, MEANS, STDS, start, crop)
        padded_semantic, padded_instance = (pad_label(x, start, crop) for x in (part_semantic, part_instance))
        assert tensor.shape == (3, *crop) and tensor.dtype == np.float32
        assert padded_semantic.shape == crop and padded_semantic.dtype == np.int64
        inside = padded_semantic != 255
        assert inside.sum() == min(crop[0], 20) * min(crop[1], 30)
        assert (tensor[:, ~inside] == 0).all() and (padded_instance[~inside] == 255).all()
        for channel, label in ((0, padded_semantic), (1, padded_instance)):
            values = (tensor[channel] * STDS[channel] + MEANS[channel]) * 255
            np.testing.assert_allclose(values[inside], label[inside], atol=1e-3)


def test_mirrored_half_of_the_time_and_reproducible():
    image, semantic, instance = scene()
    how = Augmentation(crop_size=(20, 30))
    results = [augment(image, semantic, instance, how, np.random.default_rng(seed))[1] for seed in range(100)]
    flipped = sum(np.array_equal(result, semantic[:, ::-1]) for result in results)
    assert 30 < flipped < 70
    assert all(np.array_equal(r, semantic) or np.array_equal(r, semantic[:, ::-1]) for r in results)
    everything = Augmentation((16, 16), 25, (0.5, 2.0), grey=0.3, blur=0.5, swap_parts=True)
    first, second = (augment(image, semantic, instance, everything, np.random.default_rng(5)) for _ in range(2))
    for one, other in zip(first[:3], second[:3], strict=True):
        np.testing.assert_array_equal(one, other)


def test_grey_and_blur_touch_the_image_only():
    image, semantic, instance = scene()
    how = Augmentation(crop_size=(20, 30), mirror=False, grey=1.0, blur=1.0)
    part, part_semantic, part_instance, *_ = augment(image, semantic, instance, how, np.random.default_rng(0))
    assert (part == part[..., :1]).all() and not np.array_equal(part, to_grey(image))
    np.testing.assert_array_equal(part_semantic, semantic)
    np.testing.assert_array_equal(part_instance, instance)


def test_blur_is_a_gaussian_of_five():
    image = np.zeros((9, 9, 3), np.uint8)
    image[4, 4] = 255
    weights = np.exp(-(np.arange(-2.0, 3.0) ** 2) / (2 * 1.5**2))
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    blurred = gaussian_blur(image, 1.5)
    np.testing.assert_allclose(blurred[2:7, 2:7, 0], 255 * kernel, atol=1.5)
    assert blurred[:2].max() == 0


def test_grey_is_luminance():
    image = scene()[0]
    np.testing.assert_allclose(to_grey(image)[..., 2], image @ [0.299, 0.587, 0.114], atol=1)


def test_normalise_reference_and_one_pixel():
    image = scene()[0]
    reference = (image.astype(np.float64) / 255 - MEANS) / STDS
    np.testing.assert_allclose(normalise(image, MEANS, STDS), reference.transpose(2, 0, 1), atol=1e-6)
    one = augment(
        *(array[:1, :1] for array in scene()), Augmentation((4, 4), scale=(0.5, 0.6)), np.random.default_rng(0)
    )
    assert one[0].shape == (1, 1, 3)


def test_cut_needs_no_copy():
    image = scene()[0]
    assert np.shares_memory(cut(image, (2, -3), (5, 10)), image)
    assert cut(image, (2, -3), (5, 10)).shape == (5, 7, 3)
