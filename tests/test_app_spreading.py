"""What spreads in the studio: strokes painted once, boxes as bounds, images that are gone, features computed once."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import spml
from spml.app.images import Images
from spml.app.layers import Labels, planes
from spml.app.spreading import Spreading
from spml.app.store import Store
from spml.config import load_config
from spml.inference.features import Extractor, FeatureCache
from spml.inference.model import Model
from spml.inference.spread import best_two
from spml.models import build_embedding_model

SIZE = (48, 64)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    config = load_config(
        None, ["network.backbone_types=panoptic_deeplab_tiny", "network.embedding_dim=8", "dataset.num_classes=2"]
    )
    return Model(config, build_embedding_model(config), None, torch.device("cpu"))


@pytest.fixture
def spreading(tmp_path: Path, model: Model) -> Spreading:
    rng = np.random.default_rng(0)
    for name in "ab":
        pixels = np.full((*SIZE, 3), (200, 40, 40), np.int64)
        pixels[:, 32:] = (40, 40, 200)
        pixels += rng.integers(-20, 20, pixels.shape)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{name}.png")
    images = Images(tmp_path)
    store = Store(tmp_path / ".studio" / "journal", images.known)
    store.apply("me", [{"op": "class_add", "key": key, "name": key, "color": "#ff0000"} for key in ("red", "blue")])
    found = Spreading(images, store, model, tmp_path / ".studio" / "features")
    found.start()
    return found


def draw(spreading: Spreading, key: str, x: float, image: str = "a.png", kind: str = "line") -> None:
    one = {"id": f"{image}{x}", "kind": kind, "class": key, "width": 4, "points": [[x, 4], [x, 44]]}
    spreading.store.apply("me", [{"op": "stroke", "image": image, "stroke": one}])


def test_new_strokes_are_painted_on_the_old_ones(spreading: Spreading, monkeypatch: pytest.MonkeyPatch) -> None:
    from spml.app import spreading as module

    painted: list[int] = []
    paint = module.paint
    monkeypatch.setattr(
        module, "paint", lambda strokes, *rest: (painted.append(len(strokes)), paint(strokes, *rest))[1]
    )
    for number in range(5):
        draw(spreading, ("red", "blue")[number % 2], 10 + 10 * number)
        spreading.labels("a.png")
    assert painted == [1] * 5
    spreading.store.undo("me")
    found = spreading.labels("a.png")
    assert painted[-1] == 4 and found is not None
    draw(spreading, "red", 60)
    anew = spreading.labels("a.png")
    fresh = Spreading(spreading.images, spreading.store, spreading.source, None)
    fresh.start()
    again = fresh.labels("a.png")
    assert anew is not None and again is not None and (anew.label == again.label).all()
    fresh.close()


def test_the_same_question_is_answered_once(spreading: Spreading) -> None:
    draw(spreading, "red", 10)
    first = spreading.labels("a.png")
    assert spreading.labels("a.png") is first
    draw(spreading, "blue", 50, "b.png")
    assert spreading.labels("a.png", others=False) is not first
    assert set(np.unique(spreading.labels("a.png", others=False).label)) == {0}  # type: ignore[union-attr]
    assert set(np.unique(spreading.labels("a.png").label)) == {0, 1}  # type: ignore[union-attr]


def test_a_deleted_class_is_forgotten_and_ids_move(spreading: Spreading) -> None:
    draw(spreading, "red", 10)
    draw(spreading, "blue", 50)
    spreading.labels("a.png")
    spreading.store.apply("me", [{"op": "class_delete", "key": "red"}])
    found = spreading.labels("b.png")
    assert found is not None and (found.label == 0).all()  # blue is class 0 now
    spreading.store.undo("me")
    again = spreading.labels("b.png")
    assert again is not None and (again.label[:, :24] == 0).mean() > 0.9 and (again.label[:, 40:] == 1).mean() > 0.9


def test_strokes_of_an_image_that_is_gone_teach_nothing_more(spreading: Spreading) -> None:
    draw(spreading, "red", 10, "b.png")
    (spreading.images.folder / "b.png").unlink()
    spreading.images.refresh(0)
    assert spreading.labels("a.png") is None


def test_a_stroke_that_was_erased_says_nothing(spreading: Spreading) -> None:
    draw(spreading, "red", 10)
    one = {"id": "e", "kind": "erase", "class": None, "width": 9, "points": [[10, 0], [10, 48]]}
    spreading.store.apply("me", [{"op": "stroke", "image": "a.png", "stroke": one}])
    assert spreading.labels("a.png") is None and spreading.labels("b.png") is None


def test_a_source_that_is_not_there_is_said(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    images, told = Images(tmp_path), list[dict[str, Any]]()
    spreading = Spreading(
        images, Store(tmp_path / "journal"), tmp_path / "none", None, lambda name, content: told.append(content)
    )
    spreading.start()
    with pytest.raises(spml.errors.UserError, match="none"):
        spreading.labels("a.png")
    spreading.close()
    assert "none" in told[0]["text"]


def test_threads_compute_features_once(model: Model, tmp_path: Path) -> None:
    count, barrier = [0], threading.Barrier(4)
    extractor = spml.Spreader(model).features.extract

    class Counting(Extractor):
        def __call__(self, image: np.ndarray) -> Any:
            count[0] += 1
            return super().__call__(image)

    counting = Counting(extractor.network, extractor.mean, extractor.std, extractor.device)
    cache, image = FeatureCache(counting, tmp_path), np.zeros((*SIZE, 3), np.uint8)
    found: list[Any] = []

    def ask() -> None:
        barrier.wait()
        found.append(cache(image))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count == [1] and len({id(field) for _, field in found}) == 1
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_class_lies_within_its_bounds() -> None:
    """By hand: class 1 is likelier everywhere, and may lie in the left half alone; where no class may lie is 254."""
    probability = np.stack([np.full((2, 4), 0.3, np.float32), np.full((2, 4), 0.7, np.float32)])
    left = np.zeros((2, 4), bool)
    left[:, :2] = True
    label, margin = best_two(probability, [0, 1], (2, 4), {1: left})
    assert (label == [[1, 1, 0, 0]] * 2).all()
    assert np.allclose(margin, [[0.4, 0.4, 0.3, 0.3]] * 2)
    label, margin = best_two(probability, [0, 1], (2, 4), {0: left, 1: left})
    assert (label == [[1, 1, 254, 254]] * 2).all() and (margin[:, 2:] == 0).all()


def test_what_does_not_fit_into_a_request_is_remembered_in_the_background(
    spreading: Spreading, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from spml.app import spreading as module

    spreading.labels("a.png")
    monkeypatch.setattr(module, "BUDGET", -1.0)
    draw(spreading, "red", 10)
    draw(spreading, "blue", 50, "b.png")
    found = spreading.labels("a.png", others=False)
    assert found is not None and (found.label == 0).all()  # its own strokes in any case
    monkeypatch.setattr(module, "BUDGET", 1.0)
    end = time.monotonic() + 20
    while spreading._behind:
        assert time.monotonic() < end
        time.sleep(0.05)
    both = spreading.labels("a.png")
    assert both is not None and set(np.unique(both.label)) == {0, 1}


def test_a_models_labels_as_planes() -> None:
    """By hand: class 0 lies in plane 2, class 1 in plane 0; no label is likely nowhere; a large image is reduced."""
    label, margin = np.array([[0, 1], [254, 1]], np.uint8), np.array([[0.5, 1], [1, 0]], np.float32)
    made = planes(Labels(label, margin), [2, 0])
    assert made.tolist() == [[[0, 1], [0, 0.5]], [[0, 0], [0, 0]], [[0.75, 0], [0, 0]]]
    assert planes(Labels(np.zeros((100, 1024), np.uint8), np.ones((100, 1024), np.float32)), [0]).shape == (1, 25, 256)
