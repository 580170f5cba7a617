"""Confident areas against the rules of AffinityNet and IRN, pixel by pixel; with and without the CRF."""

import numpy as np
import pytest
import torch

from spml.propagate.confident import AreasByAlpha, AreasByThreshold

IMAGE = np.full((6, 7, 3), 90, np.uint8)
PLAIN = {"iterations": 0, "backend": "torch"}


def problem(classes=5, present=(1, 3), size=(6, 7), seed=0):
    """CAMs of `present` classes, high in spots; the others are zero."""
    generator = torch.Generator().manual_seed(seed)
    cams = torch.zeros(classes, *size)
    for k in present:
        cams[k] = torch.rand(size, generator=generator) ** 3
        cams[k] /= cams[k].max()
    return cams


def by_hand(cams, levels, nothing, score):
    """The label of each pixel of CAMs (P, h, w) by name; `score(strongest, level)` is the background's."""
    found = np.full(next(iter(cams.values())).shape, 255)
    for place in np.ndindex(found.shape):
        values = {k: float(cam[place]) for k, cam in cams.items()}
        best = max(values, key=values.get)
        seen = [values[best] > score(values[best], level) for level in levels]
        if seen[0]:
            found[place] = best
        elif not seen[1]:
            found[place] = nothing
    return found


@pytest.mark.parametrize("background", [0, 4, None])
def test_by_alpha(background):
    cams = problem()
    own = {k: cams[k] for k in (1, 3)}
    nothing = 255 if background is None else background
    expected = by_hand(own, (4, 32), nothing, lambda strongest, alpha: (1 - strongest) ** alpha)
    got = AreasByAlpha(**PLAIN, background=background).label(IMAGE, cams)
    assert got.dtype == np.uint8 and (got == expected).all()
    assert {1, 3, 255} <= set(np.unique(got).tolist()) <= {1, 3, nothing, 255}


@pytest.mark.parametrize("background", [0, None])
def test_by_threshold(background):
    cams = problem()
    own = {k: cams[k] for k in (1, 3)}
    nothing = 255 if background is None else background
    expected = by_hand(own, (0.3, 0.05), nothing, lambda strongest, level: level)
    got = AreasByThreshold(**PLAIN, background=background).label(IMAGE, cams.numpy())
    assert (got == expected).all() and {1, 3, nothing, 255} == set(np.unique(got).tolist())


def test_the_backgrounds_row_and_absent_classes_do_not_count():
    cams = problem()
    expected = AreasByAlpha(**PLAIN).label(IMAGE, cams)
    cams[0] = 1
    assert (AreasByAlpha(**PLAIN).label(IMAGE, cams) == expected).all()


@pytest.mark.parametrize("rule", [AreasByAlpha, AreasByThreshold])
def test_without_cams_all_is_background(rule):
    for iterations in (0, 10):
        how = {"iterations": iterations, "backend": "torch"}
        assert not rule(**how).label(IMAGE, torch.zeros(5, 6, 7)).any()
        assert (rule(**how, background=None).label(IMAGE, torch.zeros(5, 6, 7)) == 255).all()


def test_what_the_crf_is_given():
    """By alpha, the CAMs and their background; by threshold, 70 % for the best, the rest shared by the others."""
    cams = torch.tensor([[[0.5, 0.1, 0.0]], [[0.2, 0.04, 0.0]]])
    torch.testing.assert_close(
        AreasByAlpha().scores(cams, 4.0), torch.tensor([[[0.5**4, 0.9**4, 1.0]], [[0.5, 0.1, 0.0]], [[0.2, 0.04, 0.0]]])
    )
    expected = torch.tensor([[[0.15, 0.7, 0.7]], [[0.7, 0.15, 0.15]], [[0.15, 0.15, 0.15]]])
    torch.testing.assert_close(AreasByThreshold().scores(cams, 0.3), expected)


def test_published_crfs():
    alpha, threshold = AreasByAlpha(), AreasByThreshold()
    for areas, own in ((alpha, (80, 13)), (threshold, (50, 5))):
        assert (areas.iterations, areas.pos_w, areas.pos_xy_std, areas.bi_w) == (10, 3, 3, 10)
        assert (areas.bi_xy_std, areas.bi_rgb_std) == own
    assert (alpha.objects, alpha.rest, threshold.objects, threshold.rest) == (4, 32, 0.3, 0.05)


@pytest.mark.parametrize("rule", [AreasByAlpha, AreasByThreshold])
def test_the_crf_follows_colours(rule):
    """A red square in grey; the CAM covers its middle well and its rim little."""
    image = np.full((40, 40, 3), 60, np.uint8)
    image[10:30, 10:30] = (200, 40, 40)
    rows, columns = np.mgrid[:40, :40] - 19.5
    cam = np.exp(-(rows**2 + columns**2) / 2 / 7**2)
    cams = np.zeros((4, 40, 40), np.float32)
    cams[2] = cam / cam.max()
    got = rule(backend="torch").label(image, cams)
    assert (got[14:26, 14:26] == 2).all() and (got[:6] != 2).all() and (got[:3] == 0).all()
    rough = rule(backend="torch", iterations=0).label(image, cams)
    square = np.zeros((40, 40), bool)
    square[10:30, 10:30] = True
    assert ((got == 2) & ~square).sum() <= ((rough == 2) & ~square).sum()
    assert ((got == 2) & square).sum() >= ((rough == 2) & square).sum()


def test_where_the_labellings_disagree_the_object_counts():
    """First says an object, second the background: as IRN's code has it; AffinityNet's would say background."""

    class Disagreeing(AreasByAlpha):
        def scores(self, cams, level):
            plane = torch.ones_like(cams[0]) * (level == self.rest)
            return torch.stack([plane, 1 - plane])

    label = Disagreeing(**PLAIN).label(IMAGE, problem(classes=3, present=(1,)))
    assert (label == 1).all()
