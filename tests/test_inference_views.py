"""Views and sliding crops against loops."""

import numpy as np
import pytest
import torch

from spml.config import load_config
from spml.data.augment import normalise
from spml.inference.views import ViewPlan, crop_ends, resize_image, resize_label, slide, to_pixels


def plan(**changed):
    values = dict(scales=(1.0,), flip=False, image_size=0, crop_size=(8, 8), stride=(8, 8), max_pixels=0)
    return ViewPlan(**{**values, **changed})


@pytest.mark.parametrize(
    ("length", "crop", "stride", "ends"),
    [
        (8, 8, 8, [8]),
        (9, 8, 8, [8, 9]),
        (20, 8, 5, [8, 12, 16, 20]),
        (21, 8, 6, [8, 12, 16, 21]),  # 12.33 and 16.67, rounded down
        (24, 8, 8, [8, 16, 24]),
    ],
)
def test_ends_of_crops(length, crop, stride, ends):
    assert crop_ends(length, crop, stride) == ends


@pytest.mark.parametrize("size", [(11, 1), (8, 8), (7, 21), (19, 22)])
def test_slide_averages_as_a_loop_over_pixels(size):
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))

    def apply(crop):  # depends on the place in the crop, so that overlaps differ
        ramp = torch.arange(8.0)[:, None] * 10 + torch.arange(8.0)
        return torch.stack([crop.sum(1) * ramp, crop.sum(1) + ramp], dim=1)

    height, width = max(size[0], 8), max(size[1], 8)
    padded = torch.zeros(2, 3, height, width)
    padded[..., : size[0], : size[1]] = image
    total, count = torch.zeros(2, 2, height, width), torch.zeros(height, width)
    for bottom in crop_ends(height, 8, 5):
        for end in crop_ends(width, 8, 3):
            values = apply(padded[:, :, bottom - 8 : bottom, end - 8 : end])
            for y in range(8):
                for x in range(8):
                    total[:, :, bottom - 8 + y, end - 8 + x] += values[:, :, y, x]
                    count[bottom - 8 + y, end - 8 + x] += 1
    assert count.min() >= 1
    torch.testing.assert_close(slide(image, (8, 8), (5, 3), apply), total / count)


def test_one_crop_is_the_whole_image():
    image = torch.randn(1, 3, 8, 8)
    assert torch.equal(slide(image, (8, 8), (4, 4), lambda crop: crop * 2), image * 2)


@pytest.mark.parametrize("size", [(1, 1), (5, 13)])
def test_a_crop_of_zero_is_the_whole_view_without_padding(size):
    image = torch.randn(2, 3, *size)
    assert torch.equal(slide(image, (0, 0), (0, 0), lambda crop: crop.flip(-1)), image.flip(-1))


def test_sizes_are_the_released_ones():
    assert plan(image_size=512).view_sizes((375, 500)) == [(384, 512)]
    assert plan(image_size=512).view_sizes((333, 500)) == [(340, 512)]  # 340.99, rounded down
    assert plan(image_size=512).output_size((333, 500)) == (340, 512)
    several = plan(scales=(0.5, 1.5), image_size=512)  # image_size is of the single scale only
    assert several.view_sizes((375, 501)) == [(187, 250), (562, 751)]
    assert several.output_size((375, 501)) == (375, 501)
    assert several.view_sizes((1, 1)) == [(1, 1), (1, 1)]


def test_pixels_are_bounded():
    bound = plan(scales=(0.5, 2.0), max_pixels=10_000)
    assert bound.view_sizes((100, 200)) == [(50, 100), (70, 141)]
    assert bound.output_size((100, 200)) == (70, 141)
    assert bound.is_bounded((100, 200)) and not bound.is_bounded((40, 50))
    assert not plan(scales=(0.5, 2.0)).is_bounded((6000, 4000))
    assert plan(image_size=80, max_pixels=10_000).view_sizes((6000, 4000)) == [(80, 53)]


def test_views_hold_the_mirror_image():
    image = torch.rand(3, 6, 9)
    same, half = plan(scales=(1.0, 0.5), flip=True).views(image)
    assert torch.equal(same[0], image) and torch.equal(same[1], image.flip(-1))
    assert half.shape == (2, 3, 3, 4)
    torch.testing.assert_close(half[1], half[0].flip(-1))


def test_pixels_come_back_within_one_level():
    read = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    means, stds = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    image = torch.from_numpy(normalise(read, means, stds))
    kept = image.clone()
    back = to_pixels(image, means, stds)
    assert back.dtype == np.uint8 and set(np.unique(read.astype(int) - back)) <= {0, 1}
    assert torch.equal(image, kept)


def test_resizing_is_bilinear_and_nearest():
    image = torch.rand(3, 5, 7)
    expected = torch.nn.functional.interpolate(image[None], (9, 4), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(resize_image(image, (9, 4)), expected)
    label = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert resize_label(label, (6, 4)).tolist() == np.repeat(label, 2, axis=0).tolist()
    assert resize_label(label, (3, 4)) is label


def test_scales_start_from_the_size_of_training_images():
    scaled = plan(scales=(0.5, 1.0, 2.0), base_size=160)
    assert scaled.view_sizes((213, 320)) == [(53, 80), (106, 160), (212, 320)]
    assert scaled.output_size((213, 320)) == (213, 320)  # of the scores, whatever the views
    assert plan(base_size=160).view_sizes((213, 320)) == [(106, 160)]
    assert plan(base_size=160, image_size=80).view_sizes((213, 320)) == [(53, 80)]  # a single scale has its own
    config = load_config(None, ["train.image_size=160", "test.scales=[0.5,1]"])
    assert ViewPlan.from_config(config).view_sizes((213, 320)) == [(53, 80), (106, 160)]
    assert ViewPlan.from_config(load_config()).base_size == 0  # as released
