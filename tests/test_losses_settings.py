"""What a regulariser of the table makes of its settings: size of the maps, ranges, weights, and what it divides by."""

import pytest
import torch
import torch.nn.functional as F
from loss_inputs import make_inputs

from spml.losses import TABLE
from spml.losses.cuts import kernel_cut, normalised_cut
from spml.losses.dense_crf import dense_crf
from spml.losses.entropy import entropy
from spml.losses.gated_crf import gated_crf
from spml.losses.maps import Maps, directions
from spml.losses.neighbour import neighbour
from spml.losses.tree_energy import tree_energy

IMAGES = 2


def at(size):
    """The inputs, and their maps at a size in pixels; the crop is 24 x 32."""
    inputs = make_inputs(batch=IMAGES, size=(24, 32), small=(6, 8))
    return inputs, Maps.of(inputs, size)


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def value(name, inputs, **settings):
    return float(TABLE[name].function(inputs, TABLE[name].settings(**settings)))


@pytest.mark.parametrize(("scale", "size"), [(0.5, (12, 16)), (0.25, (6, 8))])
def test_dense_crf_and_cuts(scale, size):
    """Ranges are pixels of the crop; the sum over images is divided by them."""
    inputs, maps = at(size)
    given = {"sigma_xy": 20.0, "sigma_rgb": 30.0, "scale": scale}
    words = (maps.probability, maps.rgb, maps.valid, 20 * scale, 30.0)
    assert value("dense_crf", inputs, **given) == pytest.approx(float(dense_crf(*words).sum()) / IMAGES, rel=1e-5)
    cut = float(normalised_cut(*words).sum()) / IMAGES
    assert value("normalised_cut", inputs, **given) == pytest.approx(cut, rel=1e-5)
    crf, cut = (float(part.sum()) / IMAGES for part in kernel_cut(*words))
    both = value("kernel_cut", inputs, crf_weight=0.01, cut_weight=3.0, **given)
    assert both == pytest.approx(0.01 * crf + 3 * cut, rel=1e-5) and abs(crf - cut) > 1


@pytest.mark.parametrize(("longest", "size"), [(8, (6, 8)), (16, (12, 16)), (64, (24, 32))])
def test_gated_crf(longest, size):
    """The longest side is that of the map, which is never larger than the crop; valid cells divide."""
    inputs, maps = at(size)
    energy = gated_crf(maps.probability, maps.rgb, maps.valid, 2, 3.0, 0.5).sum() / maps.valid.sum()
    found = value("gated_crf", inputs, radius=2, sigma_xy=3.0, sigma_rgb=0.5, size=longest)
    assert found == pytest.approx(float(energy), rel=1e-5)
    assert 0 < int(maps.valid.sum()) < maps.valid.numel()


@pytest.mark.parametrize("neighbours", [4, 8])
def test_neighbour(neighbours):
    inputs, maps = at((6, 8))
    energy = neighbour(maps.probability, maps.rgb, maps.valid, 90.0, neighbours).sum() / maps.valid.sum()
    found = value("neighbour", inputs, sigma=90.0, neighbours=neighbours, scale=0.25)
    assert found == pytest.approx(float(energy), rel=1e-5)


def test_entropy():
    inputs, _ = at((6, 8))
    logit = F.interpolate(inputs.logit, (24, 32), mode="bilinear")
    expected = entropy(logit, inputs.valid).sum() / inputs.valid.sum()
    assert value("entropy", inputs) == pytest.approx(float(expected), rel=1e-5)
    assert int(inputs.valid.sum()) < inputs.valid.numel()


def test_tree_energy():
    """At the size of the scores; cells without a labelled pixel divide, and sigma is that of the setting."""
    inputs, maps = at((6, 8))
    unlabelled = maps.valid.clone()
    for image in range(IMAGES):
        for row in range(6):
            for column in range(8):
                cell = inputs.label[image, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                if (cell < inputs.logit.shape[1]).any():
                    unlabelled[image, row, column] = False
    embedding = directions(inputs.embedding)
    energy = tree_energy(maps.probability, maps.rgb, embedding, maps.valid, unlabelled, 0.3).sum()
    assert value("tree_energy", inputs, sigma=0.3) == pytest.approx(float(energy / unlabelled.sum()), rel=1e-5)
    assert 0 < int(unlabelled.sum()) < int(maps.valid.sum())
    assert abs(value("tree_energy", inputs, sigma=1.0) - value("tree_energy", inputs, sigma=0.3)) > 1e-4
