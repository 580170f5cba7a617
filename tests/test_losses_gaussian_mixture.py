"""The Gaussian mixture's supervision by loops over pixels and classes, by hand, and by gradcheck."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import make_inputs

from spml.data.samples import Sample
from spml.data.tags import given_tag
from spml.grouping.memory import ALONE
from spml.losses.gaussian_mixture import LOSS, Centres, absence, agreement, mixture, separation

SMALL = 1e-6


def problem(size=(4, 6), small=(2, 3), classes=4, channels=2):
    inputs = make_inputs(size=size, small=small, classes=classes, channels=channels)
    inputs.valid[:], inputs.valid[0, 0], inputs.valid[1, :, 5] = True, False, False
    inputs.label[:] = 254
    inputs.label[0, 1, 1], inputs.label[0, 2, 4], inputs.label[0, 2, 5] = 2, 0, 2
    inputs.label[1, 3, 3], inputs.label[1, 0, 0] = 3, 3
    inputs.label[~inputs.valid] = 255
    inputs.tag = torch.tensor([[True, False, True, False], [False, False, False, True]])
    for name in ("logit", "embedding"):
        setattr(inputs, name, getattr(inputs, name).detach().double().requires_grad_())
    return inputs


def loop_loss(inputs):
    """Every part a pixel at a time, from maps enlarged to the crop."""
    size = inputs.label.shape[-2:]
    score = F.interpolate(inputs.logit.detach(), size, mode="bilinear").softmax(1)
    small = inputs.embedding.detach()
    small = small / (small**2).mean(1, keepdim=True).sqrt()  # of length sqrt(D)
    feature = F.interpolate(small, size, mode="bilinear")
    classes, channels = score.shape[1], feature.shape[1]
    everywhere, given, absent, centres = [], [], [], {}
    for b in range(len(score)):
        pixels = inputs.valid[b].nonzero().tolist()
        labelled = [(y, x) for y, x in pixels if inputs.label[b, y, x] < classes]
        own = {}
        for k in {int(inputs.label[b, y, x]) for y, x in labelled}:
            rows = torch.stack([feature[b, :, y, x] for y, x in labelled if inputs.label[b, y, x] == k])
            own[k] = rows.mean(0)
            centres.setdefault(k, []).append(own[k])
        maps = {}
        for k, centre in own.items():
            distance = sum((small[b, c] - centre[c]).abs() for c in range(channels)) / channels
            maps[k] = F.interpolate((-(distance**2)).exp()[None, None], size, mode="bilinear")[0, 0]
        for y, x in pixels:
            p, g = score[b, :, y, x].tolist(), {k: m[y, x].item() for k, m in maps.items()}
            pairs = [g[k] * math.log(p[k] + SMALL) + (1 - g[k]) * math.log(1 - p[k] + SMALL) for k in g]
            everywhere.append(-sum(pairs) / 2 / max(len(g), 1))
            absent.append(-sum(math.log(1 - p[k] + SMALL) for k in lacking(inputs, b)))
            if (y, x) in labelled:
                is_own = {k: inputs.label[b, y, x] == k for k in g}
                pairs = [math.log((g[k] if is_own[k] else 1 - g[k]) + SMALL) for k in g]
                given.append(-sum(pairs) / 2 / len(g))
    mean = {k: torch.stack(rows).mean(0) for k, rows in centres.items()}
    pairs = [(k, m) for k in mean for m in mean if k < m]
    apart = [math.exp(-((mean[k] - mean[m]).abs().mean().item() ** 2)) for k, m in pairs]
    average = [sum(part) / len(part) for part in (everywhere, given, absent, apart)]
    return sum(average)


def lacking(inputs, image):
    """Classes that the image does not have; the background may be there without a tag."""
    classes = range(inputs.tag.shape[1])
    return [k for k in classes if not inputs.tag[image, k] and k != inputs.background]


@pytest.mark.parametrize("background", [0, 1, None])
def test_equals_loops(background):
    inputs = problem()
    inputs.background = background
    assert LOSS.function(inputs, LOSS.settings()).item() == pytest.approx(loop_loss(inputs), rel=1e-9)


def test_gradcheck():
    inputs = problem()

    def loss(logit, embedding):
        inputs.logit, inputs.embedding = logit, embedding
        return LOSS.function(inputs, LOSS.settings())

    assert torch.autograd.gradcheck(loss, (inputs.logit, inputs.embedding))


def test_by_hand():
    """A row of three pixels, one channel: features 0, 2 and 1; the first has class 0, the second class 1, the third
    no label. Centres are 0 and 2; G of class 0 is 1, exp(-4), exp(-1), and of class 1 exp(-4), 1, exp(-1).

    With P = 1/2 everywhere the first part is ln 2 a class, halved: (ln 2) / 2 a pixel, whatever G is. At the first
    label G is 1 of its own class and exp(-4) of the other: -(ln 1 + ln(1 - exp(-4))) / 2 / 2; the second one alike.
    The centres are 2 apart: exp(-4). No class of two is absent.
    """
    feature = torch.tensor([0.0, 2, 1], dtype=torch.float64).view(1, 1, 1, 3)
    label, valid = torch.tensor([[[0, 1, 254]]]), torch.ones(1, 1, 3, dtype=torch.bool)
    centres = Centres.of(feature, label, 2)
    assert centres.mean.flatten().tolist() == [0, 2]
    gaussian = mixture(feature, centres.mean[:, 0])
    assert gaussian.flatten().tolist() == pytest.approx([1, math.exp(-4), math.exp(-1)])
    everywhere, given = agreement(torch.full((1, 2, 1, 3), 0.5).double(), feature, label, valid, centres)
    assert everywhere.item() == pytest.approx(3 * math.log(2) / 2, abs=1e-5)
    assert given.item() == pytest.approx(-2 * math.log(1 - math.exp(-4)) / 4, abs=1e-5)
    assert separation(centres, ALONE).item() == pytest.approx(math.exp(-4))


def test_absence_by_hand():
    """P = (1/2, 1/4, 1/4), tag 0: -ln(3/4) - ln(3/4) a valid pixel. Nothing where no tag is known."""
    probability = torch.tensor([0.5, 0.25, 0.25]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    valid = torch.tensor([[[True, False]]])
    tag = torch.tensor([[True, False, False]])
    assert absence(probability, tag, valid).item() == pytest.approx(-2 * math.log(0.75), abs=1e-5)
    assert absence(probability, torch.zeros_like(tag), valid) == 0
    assert absence(probability, tag, valid, background=2).item() == pytest.approx(-math.log(0.75), abs=1e-5)


def test_tags_push_no_pixel_out_of_the_background():
    """Tags name objects alone: a network that is sure of the background pays nothing for what they leave out."""
    tag = torch.from_numpy(given_tag(Sample(Path("x.jpg"), tags=("1",)), 3))[None]
    assert tag.tolist() == [[False, True, False]]
    probability = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    valid = torch.ones(1, 1, 1, dtype=torch.bool)
    assert absence(probability, tag, valid, background=0).item() == pytest.approx(0, abs=1e-5)


def test_centres_are_means_of_enlarged_features():
    feature, label = torch.randn(2, 3, 4, 5), torch.randint(6, (2, 9, 11))
    centres = Centres.of(feature, label, 4)
    large = F.interpolate(feature, (9, 11), mode="bilinear")
    for image in range(2):
        for k in range(4):
            expected = large[image][:, label[image] == k].mean(1)
            torch.testing.assert_close(centres.mean[image, k], expected, rtol=1e-4, atol=1e-5)
    assert centres.labelled.all()
