"""A simulated user: each turn a stroke in the largest wrong region of an image, of its true class.

Images come one after the other, as in a sitting. mIoU after n strokes is over all images, each as it was labelled right
after its n-th stroke; after 0 strokes an image is labelled by what the images before it have taught.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import spml
from spml.app.job import build_config, read_wishes
from spml.app.layers import Labels, planes
from spml.data.samples import IGNORE, UNLABELLED
from spml.data.strokes import draw_strokes, inner_distance
from spml.evaluation.iou import ConfusionMatrix

LENGTH = 0.5  # of a stroke, part of the region's length
WIDTH = 3  # pixels
TRAIN_EVERY = 10  # images
WAYS = ("own image", "all images", "forest")


def next_stroke(label: np.ndarray, target: np.ndarray, strokes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W) bool and its class: a stroke in the largest connected region of one true class that is labelled wrong."""
    wrong = (label != target) & (target < UNLABELLED) & (strokes == UNLABELLED)
    best: tuple[int, Any] = (0, None)
    for index in np.unique(target[wrong]):
        pieces, _ = ndimage.label(wrong & (target == index))
        sizes = np.bincount(pieces.ravel())[1:]
        piece = int(sizes.argmax())
        if sizes[piece] > best[0]:
            best = int(sizes[piece]), (pieces == piece + 1, int(index))
    if best[1] is None:
        return strokes
    inside, index = best[1]
    line = draw_strokes(inner_distance(inside), rng, LENGTH, 0.0)
    pen = ndimage.binary_dilation(line, iterations=WIDTH // 2) & inside
    found = strokes.copy()
    found[pen] = index
    return found


class ByFeatures:
    """The studio's way."""

    def __init__(self, spreader: Any, others: bool) -> None:
        self.spreader, self.others = spreader, others

    def label(self, image: np.ndarray, strokes: np.ndarray, name: str) -> np.ndarray | None:
        """(H, W) uint8, or None where nothing is known yet."""
        said = strokes if (strokes < UNLABELLED).any() else None
        try:
            return self.spreader.spread(image, said, others=self.others).label
        except spml.errors.UserError:
            return None

    def keep(self, image: np.ndarray, strokes: np.ndarray, name: str) -> None:
        """An image is finished."""
        if self.others:
            self.spreader.remember(image, strokes, name)


class ByForest:
    """The way of ilastik: hand-made filters of several scales, a random forest of 100 trees on the image's strokes."""

    def label(self, image: np.ndarray, strokes: np.ndarray, name: str) -> np.ndarray | None:
        """(H, W) uint8, or None without strokes."""
        import torch
        from spread import Case, forest

        ids = [int(index) for index in np.unique(strokes) if index < UNLABELLED]
        if not ids:
            return None
        nothing: Any = None
        score = forest(Case(nothing, image, strokes, strokes, nothing, torch.zeros(0), torch.zeros(0), ids, nothing))
        return np.array(ids, np.uint8)[score.argmax(0).numpy()]

    def keep(self, image: np.ndarray, strokes: np.ndarray, name: str) -> None:
        """Nothing is kept from image to image."""


def simulate(
    way: Any,
    samples: Sequence[Any],
    classes: int,
    strokes: int,
    seed: int = 0,
    after: Callable[[int, list[tuple[Any, np.ndarray]]], Any] = lambda number, drawn: None,
) -> list[float]:
    """mIoU in per cent after 0, 1, .. `strokes` strokes an image.

    Args:
        way: has `label` and `keep`.
        after: called with the number of finished images and what was drawn; returns another way, or None.
    """
    from spml.data.samples import read_sample_files

    matrices = [ConfusionMatrix(classes) for _ in range(strokes + 1)]
    drawn: list[tuple[Any, np.ndarray]] = []
    for number, sample in enumerate(samples, start=1):
        image, target, _ = read_sample_files(sample)
        assert target is not None
        rng = np.random.default_rng([seed, number])
        said = np.full(target.shape, UNLABELLED, np.uint8)
        for turn in range(strokes + 1):
            label = way.label(image, said, sample.name)
            label = np.full(target.shape, IGNORE, np.uint8) if label is None else label
            matrices[turn].update(np.where(label < classes, label, classes - 1 - target.clip(0, classes - 1)), target)
            said = next_stroke(label, target, said, rng) if turn < strokes else said
        way.keep(image, said, sample.name)
        drawn.append((sample, said))
        way = after(number, drawn) or way
    return [100 * matrix.mean_iou() for matrix in matrices]


class ByModel(ByFeatures):
    """The page's labels of the model: what the network says, then what it says with the image's own strokes.

    Args:
        model: trained on the strokes so far.
        spreader: of frozen features, which goes on learning from all strokes.
    """

    def __init__(self, model: Any, spreader: Any) -> None:
        super().__init__(spreader, True)
        self.model = model
        self._latest: tuple[str, Any, np.ndarray] | None = None

    def label(self, image: np.ndarray, strokes: np.ndarray, name: str) -> np.ndarray | None:
        """(H, W) uint8."""
        if self._latest is None or self._latest[0] != name:
            found = self.model.predict(image)
            said = planes(Labels(found.label, found.margin), range(len(self.model.classes)))
            self._latest = name, found.label, said
        if not (strokes < UNLABELLED).any():
            return self._latest[1]
        return self.spreader.spread(image, strokes, prior=self._latest[2]).label


def trainer(spreader: Any, names: Sequence[str], steps: int, last: int, folder: Path) -> Callable[..., Any]:
    """What trains after every ten images, as the page does: on labels that all strokes so far spread to.

    Args:
        spreader: knows the strokes so far.
        last: the number of images, after which no training is of use.
    """

    def after(number: int, drawn: list[tuple[Any, np.ndarray]]) -> Any:
        if number % TRAIN_EVERY or number == last:
            return None
        place = folder / str(number)
        place.mkdir(parents=True)
        (place / "classes.txt").write_text("".join(f"{name}\n" for name in names))
        samples = []
        for sample, said in drawn:
            image = spml.data.samples.read_image(sample)
            label = spreader.spread(image, said, crf=True).label
            samples.append(spml.Sample(image, label, spml.oversegment(image), name=sample.name))
        config = build_config(read_wishes({}), steps, place / "classes.txt", 0, True)
        return ByModel(spml.train(config, place / "run", samples).model(), spreader)

    return after


def report(
    samples: Sequence[Any],
    names: Sequence[str],
    strokes: int,
    source: str,
    ways: Sequence[str],
    train: int,
    seed: int = 0,
) -> dict[str, list[float]]:
    """The table: way to mIoU after each stroke. `train`: steps of the training after every ten images; 0: none."""
    rows: dict[str, list[float]] = {}
    for name in ways:
        way: Any = ByForest()
        if name != "forest":
            way = ByFeatures(spml.Spreader(source, classes=names), name == "all images")
        rows[name] = simulate(way, samples, len(names), strokes, seed)
        print(name, " ".join(f"{value:.1f}" for value in rows[name]), flush=True)
    if train:
        with tempfile.TemporaryDirectory() as folder:
            way = ByFeatures(spml.Spreader(source, classes=names), True)
            after = trainer(way.spreader, names, train, len(samples), Path(folder))
            rows["all images, trained"] = simulate(way, samples, len(names), strokes, seed, after)
    return rows
