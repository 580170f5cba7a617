"""Contextual retrieval, as the paper pictures it: a segment of a test image and its nearest training segments."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from spml.classes import UNLABELLED
from spml.data.dataset import read_sample
from spml.data.pickled import read_memory_file, read_origin
from spml.data.samples import Sample, read_image, read_label
from spml.errors import UserError
from spml.inference.memory import PROTOTYPES
from spml.inference.outputs import CLUSTER
from spml.inference.predictors import load_models
from spml.inference.segmenter import Segmenter
from spml.inference.views import ViewPlan, resize_label
from spml.pipelines.compared_run import ComparedRun
from spml.visualize.figures import draw_borders, resize, width_at
from spml.visualize.pictures import chosen

IMAGES = 16  # test images whose segments may be queries
QUERIES = 4  # right ones, and as many wrong ones
NEAREST = 5
MARGIN = 0.35  # of the segment's box, around it
HEIGHT = 150  # of a crop, in pixels
MOST_WIDE = 1.6  # width of a crop, in heights
YELLOW = (255, 230, 0)


@dataclass(frozen=True)
class Segment:
    """A segment of an image, cut out with its surroundings and its border drawn."""

    picture: np.ndarray  # (h, w, 3) uint8
    name: str  # of the image
    label: int  # a query's predicted class, a training segment's own
    similarity: float = 1.0  # cosine with the query


@dataclass(frozen=True)
class Query:
    """A segment of a test image with its true class, and its nearest labelled segments of the training images."""

    segment: Segment
    truth: int
    nearest: tuple[Segment, ...]

    @property
    def right(self) -> bool:
        return self.segment.label == self.truth


@dataclass(frozen=True)
class _Candidate:
    """A segment of a test image that may become a query."""

    sample: Sample
    index: np.ndarray  # (H, W) segments at the size of the image
    number: int
    share: float  # of the image
    truth: int
    predicted: int
    prototype: Tensor  # (D,) of unit length


@dataclass(frozen=True)
class _Memory:
    """The prototypes of a run's memory that stand in an image of segments."""

    prototype: Tensor  # (P, D) of unit length
    label: np.ndarray  # (P,)
    image: np.ndarray  # (P,) place in `samples`
    segment: np.ndarray  # (P,) its id in the image of segments
    samples: Sequence[Sample]
    folder: Path


def contextual_retrieval(run: ComparedRun, device: torch.device) -> list[Query]:
    """The largest right and the largest wrong segments of some test images, each with its nearest training segments.

    A segment is right if retrieval gives most of its pixels the class that most of them have. Queries differ in their
    true class, first the right ones. The nearest are those of the memory by the cosine of the prototypes, one an image.

    Returns:
        Queries; none where an older version filled the memory, which does not say where its prototypes come from.

    Raises:
        UserError: files of the run that are missing or cannot be read.
    """
    memory = _read_memory(run)
    if memory is None:
        return []
    candidates = _candidates(run, device)
    right = _pick([one for one in candidates if one.truth == one.predicted])
    wrong = _pick([one for one in candidates if one.truth != one.predicted])
    return [_query(one, memory) for one in (*right, *wrong)]


def _pick(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The largest segment of each true class, of the largest such."""
    found: dict[int, _Candidate] = {}
    for one in sorted(candidates, key=lambda one: -one.share):
        found.setdefault(one.truth, one)
    return list(found.values())[:QUERIES]


def _candidates(run: ComparedRun, device: torch.device) -> list[_Candidate]:
    config, plan = run.config, ViewPlan.from_config(run.config)
    model, _ = load_models(config, run.snapshot, device, with_classifier=False)
    segmenter = Segmenter.from_config(config, model, plan, device)
    statistics = config.network.pixel_means, config.network.pixel_stds, config.dataset.unlabelled_index
    found = []
    for sample in chosen(run.samples("test"), IMAGES):
        read = read_sample(sample, *statistics)
        assert read.semantic is not None
        truth = read.semantic.numpy().astype(np.uint8)
        views = next(iter(plan.views(read.image)))
        index, prototype = segmenter(views[:1], keep_padding=plan.single_scale)
        segments = resize_label(index[0].cpu().numpy().astype(np.uint16), truth.shape)
        predicted = read_label(run.predictions("retrieval") / f"{sample.name}.png")
        prototype = F.normalize(prototype.float(), dim=1).cpu()
        for number in np.unique(segments):
            inside = (segments == number) & (truth < config.dataset.num_classes)
            if inside.any():
                true, given = (int(np.bincount(label[inside]).argmax()) for label in (truth, predicted))
                share = float(inside.mean())
                found.append(_Candidate(sample, segments, int(number), share, true, given, prototype[number]))
    return found


def _read_memory(run: ComparedRun) -> _Memory | None:
    folder, samples = run.folder / "memory", run.samples("train")
    prototypes, labels, images, segments = [], [], [], []
    for place, sample in enumerate(samples):
        path = folder / PROTOTYPES / f"{sample.name}.npy"
        origin = read_origin(path)
        if origin is None:
            return None
        prototype, label = read_memory_file(path)
        kept = (origin >= 0) & (label < UNLABELLED)
        prototypes.append(prototype[kept])
        labels.append(label[kept])
        segments.append(origin[kept])
        images.append(np.full(int(kept.sum()), place))
    unit = F.normalize(torch.from_numpy(np.concatenate(prototypes)), dim=1)
    every_label, image, segment = (np.concatenate(parts) for parts in (labels, images, segments))
    return _Memory(unit, every_label, image, segment, samples, folder)


def _query(one: _Candidate, memory: _Memory) -> Query:
    similarity = memory.prototype @ one.prototype  # (P,)
    nearest: dict[int, Segment] = {}
    for place in similarity.argsort(descending=True, stable=True).tolist():
        image = int(memory.image[place])
        if image not in nearest:
            sample, label = memory.samples[image], int(memory.label[place])
            picture = cut_out(read_image(sample.image), _stored(memory, sample), int(memory.segment[place]))
            nearest[image] = Segment(picture, sample.name, label, float(similarity[place]))
        if len(nearest) == NEAREST:
            break
    picture = cut_out(read_image(one.sample.image), one.index, one.number)
    return Query(Segment(picture, one.sample.name, one.predicted), one.truth, tuple(nearest.values()))


def _stored(memory: _Memory, sample: Sample) -> np.ndarray:
    """The image of segments that lies beside the memory."""
    path = memory.folder / CLUSTER / f"{sample.name}.png"
    try:
        with Image.open(path) as file:
            return np.array(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; expected what `spml memory` wrote") from error


def cut_out(image: np.ndarray, index: np.ndarray, number: int, height: int = HEIGHT) -> np.ndarray:
    """The part of an image around a segment, with the segment's border.

    Args:
        image: (H, W, 3) uint8.
        index: (h, w) ids of segments, of the same image at any size.
        number: the segment's id, which occurs in `index`.
        height: of the result, in pixels; very wide parts are lower.

    Returns:
        (height or less, w, 3) uint8.
    """
    inside = resize((index == number).astype(np.uint8), *image.shape[:2])
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):  # smaller than a pixel of the image
        return image
    spare = int(MARGIN * max(rows[-1] - rows[0], columns[-1] - columns[0])) + 2
    top, left = max(0, rows[0] - spare), max(0, columns[0] - spare)
    box = np.s_[top : rows[-1] + spare + 1, left : columns[-1] + spare + 1]
    part, mask = image[box], inside[box]
    height = min(height, max(1, round(height * MOST_WIDE / width_at(height, part) * height)))
    size = height, width_at(height, part)
    return draw_borders(resize(part, *size), resize(mask, *size), YELLOW)
