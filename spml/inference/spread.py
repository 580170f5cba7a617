"""`Spreader`: a few strokes in, labels of the whole image and of all others out, while the user watches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from spml.data.samples import IGNORE, UNLABELLED, read_image, read_label
from spml.device import resolve_device
from spml.errors import UserError
from spml.inference.features import LONG_SIDE, Extractor, FeatureCache
from spml.inference.loading import load
from spml.inference.model import Model
from spml.inference.prediction import Prediction
from spml.inference.prior import corrected, mean, on_grid
from spml.inference.views import MAX_PIXELS, ViewPlan
from spml.models.backbones.base import Encoder
from spml.models.checkpoint import find_snapshot
from spml.models.pretrained import PACKAGE, find_package, normalisation, pretrained_encoder
from spml.propagate import DenseCRF
from spml.propagate.spread import (
    Evidence,
    Field,
    add,
    fit,
    gather,
    probabilities,
    stroke_cells,
    thin,
    walk,
)

Picture = str | Path | Image.Image | np.ndarray
EXAMPLES = 256  # cells of a class that an image is remembered by, at most


@dataclass(frozen=True)
class _Known:
    """What is remembered of one image."""

    key: str  # of its features
    feature: Tensor  # (n, D) float16
    cell: Tensor  # (n,) int64, of its field
    label: Tensor  # (n,) int64
    strokes: np.ndarray  # (H, W) uint8

    @cached_property
    def classes(self) -> frozenset[int]:
        return frozenset(self.label.tolist())


class Spreader:
    """Labels that spread from strokes by frozen features, in closed form.

    Strokes are (H, W) uint8 of the image's size: class ids, 254 unlabelled, 255 void. What they say stays as it is in
    the labels. Features are computed once an image and found again by its content.

    Args:
        source: of the features: `package:<name>`, weights that install from the package index; the path of a snapshot
            or its folder; or a Model.
        device: cpu, cuda, cuda:<i>, or auto.
        classes: their names; ids from their number on say nothing. None: those of a model, else any id below 254.
        cache: a folder that keeps features for the next time; None: they are kept in memory alone.
        long_side: of the image that the network sees, pixels; labels have the image's own size.

    Raises:
        UserError: a source that is not there, or a cache of other features.
    """

    def __init__(
        self,
        source: str | Path | Model = "package:efficientnet_lite0",
        device: str | torch.device = "auto",
        *,
        classes: Sequence[str] | None = None,
        cache: str | Path | None = None,
        long_side: int = LONG_SIDE,
    ) -> None:
        extractor, names, self.background = _extractor(source, device, long_side)
        self.classes = tuple(names if classes is None else classes)
        self.device = extractor.device
        self.features = FeatureCache(extractor, cache)
        self._known: dict[str, _Known] = {}
        self._total: Evidence = {}
        self._latest: tuple[_Known, Evidence] | None = None

    def remember(self, image: Picture, strokes: str | Path | np.ndarray, name: str | None = None) -> None:
        """Learn from the strokes on an image, in place of what was remembered under its name before.

        Args:
            image: a path, a PIL image, or (H, W, 3) uint8.
            strokes: (H, W) uint8, or a PNG of them. Where none says anything, the image is forgotten.
            name: None: the image's content.

        Raises:
            UserError: files that cannot be read, or strokes of another size.
        """
        key, field, known = self._read(image, strokes)
        if known is None:
            raise UserError("strokes: expected (H, W) uint8 or the path of a PNG, got None")
        name = key if name is None else name
        self.forget(name)
        if len(known.label):
            self._known[name] = known
            self._total = add(self._total, self._evidence(known))

    def forget(self, name: str) -> None:
        """Take back what was remembered under a name, if there is anything."""
        gone = self._known.pop(name, None)
        if gone is not None:
            self._total = self._without([gone])

    def spread(
        self,
        image: Picture,
        strokes: str | Path | np.ndarray | None = None,
        *,
        others: bool = True,
        complete: bool = False,
        within: Mapping[int, np.ndarray] | None = None,
        crf: bool | DenseCRF = False,
        prior: np.ndarray | None = None,
    ) -> Prediction:
        """Label an image from its own strokes and from those of all other images that are remembered.

        Args:
            image: a path, a PIL image, or (H, W, 3) uint8.
            strokes: (H, W) uint8, or a PNG of them; None: those remembered of this image, if any.
            others: False: from its own strokes alone.
            complete: every class that the image shows has a stroke, so that no other class is looked for.
            within: class id to (H, W) bool, where alone the class may lie, such as its boxes. A pixel where no class
                may lie is 254.
            crf: refine by a dense CRF, of the released settings where this is True.
            prior: (K, h, w) float, probabilities of the classes 0..K-1 at any size, such as a trained model's. On an
                image with strokes of its own the labels begin from the mean of these and of what all strokes say, and
                its own strokes correct that. On others they are the labels.

        Returns:
            The labels at the image's size; `.margin` is small where strokes would help most.

        Raises:
            UserError: files that cannot be read, strokes of another size, or not one stroke to spread from.
        """
        pixels = read_image(image)
        size = pixels.shape[:2]
        wrong = [index for index, place in (within or {}).items() if np.shape(place) != size]
        if wrong:
            raise UserError(f"within: expected {size} for class {wrong[0]}, got {np.shape((within or {})[wrong[0]])}")
        if prior is not None and np.ndim(prior) != 3:
            raise UserError(f"prior: expected (K, h, w), got {np.shape(prior)}")
        ids, probability, known = self._scores(pixels, strokes, others, complete, prior)
        said = None if known is None else known.strokes
        return self._prediction(pixels, ids, probability.cpu().numpy(), said, within or {}, crf)

    def scores(
        self,
        image: Picture,
        strokes: str | Path | np.ndarray | None = None,
        *,
        others: bool = True,
        complete: bool = False,
    ) -> tuple[list[int], Tensor]:
        """What `spread` makes labels of: the ids of k classes, and their probabilities (k, h, w) on the cells."""
        return self._scores(read_image(image), strokes, others, complete)[:2]

    def _scores(
        self,
        pixels: np.ndarray,
        strokes: str | Path | np.ndarray | None,
        others: bool,
        complete: bool,
        prior: np.ndarray | None = None,
    ) -> tuple[list[int], Tensor, _Known | None]:
        """Ids, probabilities, and what the image's own strokes say."""
        key, field, known = self._read(pixels, strokes)
        same = [one for one in self._known.values() if one.key == key]
        known = self._own(key) if known is None else known
        own = self._evidence(known) if known is not None else {}
        elsewhere = self._without(same) if others else {}
        if not own and prior is not None:
            return *on_grid(prior, field), known
        if not own and not elsewhere:
            where = "on this image or another" if others else "on this image, as others=False"
            raise UserError(f"strokes: expected at least one pixel of a class {where}, got none")
        ids, weight = fit(own, elsewhere)
        if complete and own:
            kept = [place for place, index in enumerate(ids) if index in own]
            ids, weight = [ids[place] for place in kept], weight[:, kept]
        probability = probabilities(walk(field.score(weight), field.hold))
        if prior is None or known is None:
            return ids, probability, known
        begun = on_grid(prior, field)
        if len(ids) > 1:  # one class alone would take the whole image
            begun = mean((ids, probability), begun)
        ids, score = corrected(begun, field, known.feature, known.cell, known.label)
        return ids, probabilities(walk(score, field.hold)), known

    def _own(self, key: str) -> _Known | None:
        """What is remembered of an image's own strokes."""
        return next((one for one in reversed(self._known.values()) if one.key == key), None)

    def _read(self, image: Picture, strokes: str | Path | np.ndarray | None) -> tuple[str, Field, _Known | None]:
        """Key and features of an image, and what its strokes say."""
        pixels = read_image(image)
        if strokes is not None:
            strokes = strokes if isinstance(strokes, np.ndarray) else read_label(strokes)
            if strokes.shape != pixels.shape[:2]:
                raise UserError(f"strokes: expected {pixels.shape[:2]} as the image, got {tuple(strokes.shape)}")
            if strokes.dtype != np.uint8:
                raise UserError(f"strokes: expected uint8, got {strokes.dtype}")
        key, field = self.features(pixels)
        if strokes is None:
            return key, field, None
        cell, label = stroke_cells(torch.from_numpy(strokes).to(self.device), field.size, self._limit)
        cell, label = thin(cell, label, EXAMPLES)
        return key, field, _Known(key, field.at(cell).half(), cell, label, strokes)

    def _evidence(self, known: _Known) -> Evidence:
        """What an image's examples say. That of the latest is held: of all it would be gigabytes."""
        if self._latest is None or self._latest[0] is not known:
            self._latest = known, gather(known.feature, known.label)
        return self._latest[1]

    @property
    def _limit(self) -> int:
        """Ids from here on say nothing."""
        return len(self.classes) or UNLABELLED

    def _without(self, some: Sequence[_Known]) -> Evidence:
        """The evidence of all images but some; classes that no other image holds are gone, not rounded to nearly 0."""
        if not some:
            return self._total
        gone = {id(one) for one in some}
        left = {key for one in self._known.values() if id(one) not in gone for key in one.classes}
        total = self._total
        for one in some:
            total = add(total, self._evidence(one), -1)
        return {key: product for key, product in total.items() if key in left}

    def _prediction(
        self,
        pixels: np.ndarray,
        ids: Sequence[int],
        probability: np.ndarray,
        strokes: np.ndarray | None,
        within: Mapping[int, np.ndarray],
        crf: bool | DenseCRF,
    ) -> Prediction:
        """Labels and margin at the image's size, with what the strokes say; all probabilities when asked for."""
        size = (pixels.shape[0], pixels.shape[1])
        if crf:
            refine = DenseCRF(device=self.device) if crf is True else crf
            working = ViewPlan((1.0,), False, 0, (0, 0), (0, 0), MAX_PIXELS["CRF"]).bounded(size)
            small = cv2.resize(pixels, working[::-1], interpolation=cv2.INTER_AREA)
            probability = refine(small, np.stack([_enlarged(plane, working) for plane in probability]))
        label, margin = best_two(probability, ids, size, within)
        said = np.zeros(size, bool) if strokes is None else strokes < self._limit
        if strokes is not None:
            label = np.where(said | (strokes == IGNORE), strokes, label)
            margin = np.where(said, np.float32(1), margin)
        count = len(self.classes) or int(max(ids)) + 1
        make = partial(_full, probability, ids, size, count, strokes, said, within)
        return Prediction(label, make, None, self.classes, pixels, margin, self.background)


def best_two(
    probability: np.ndarray, ids: Sequence[int], size: tuple[int, int], within: Mapping[int, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The label (H, W) uint8 and the margin (H, W) float32 of probabilities (k, h, w), enlarged one class at a time.

    A class lies `within` its (H, W) bool alone, if it has one; where no class may lie, the label is 254.
    """
    best, second = np.zeros(size, np.float32), np.zeros(size, np.float32)
    label = np.full(size, UNLABELLED, np.uint8)
    for index, plane in zip(ids, probability, strict=True):
        plane = _bounded(_enlarged(plane, size), index, within or {})
        np.maximum(second, np.minimum(best, plane), out=second)
        label[plane > best] = index
        np.maximum(best, plane, out=best)
    return label, best - second


def _bounded(plane: np.ndarray, index: int, within: Mapping[int, np.ndarray]) -> np.ndarray:
    return np.where(within[index], plane, np.float32(0)) if index in within else plane


def _enlarged(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if plane.shape == size:
        return plane
    return cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR)


def _full(
    probability: np.ndarray,
    ids: Sequence[int],
    size: tuple[int, int],
    count: int,
    strokes: np.ndarray | None,
    said: np.ndarray,
    within: Mapping[int, np.ndarray],
) -> np.ndarray:
    """(K, H, W) float32: 0 for classes that no stroke named or that may not lie there, 1 for what the strokes say."""
    full = np.zeros((count, *size), np.float32)
    for index, plane in zip(ids, probability, strict=True):
        full[index] = _bounded(_enlarged(plane, size), index, within)
    if strokes is not None:
        full[:, said] = 0
        rows, columns = said.nonzero()
        full[strokes[said], rows, columns] = 1
    return full


class _Maps(nn.Module):
    """A network as the extractor calls it: image to maps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.network.stages(image) if isinstance(self.network, Encoder) else [self.network(image)]


def check_source(source: str | Path) -> None:
    """Raise UserError for the name of an unknown package, or a place without a snapshot. It reads no weights."""
    if str(source).startswith(PACKAGE):
        find_package(str(source))
    else:
        find_snapshot(source, "--source")


def _extractor(
    source: str | Path | Model, device: str | torch.device, long_side: int
) -> tuple[Extractor, tuple[str, ...], int | None]:
    """What makes the features, the names of the classes if a model has them, and the class that is drawn black."""
    if long_side < 1:
        raise UserError(f"long_side: expected pixels above 0, got {long_side}")
    if isinstance(source, str) and source.startswith(PACKAGE):
        device = resolve_device(device) if isinstance(device, str) else device
        network = _Maps(pretrained_encoder(source)).to(device).eval()
        mean, std = normalisation(find_package(source).backbone, source)
        return Extractor(network, tuple(mean), tuple(std), device, long_side), (), 0
    model = source if isinstance(source, Model) else load(source, device=device)
    means, stds = model.config.network.pixel_means, model.config.network.pixel_stds
    network = _Maps(model.embedding).eval()
    extractor = Extractor(network, tuple(means), tuple(stds), model.device, long_side)
    return extractor, model.classes, model.config.dataset.background
