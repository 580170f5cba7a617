"""Labels spread from strokes: ours beside logistic regression, nearest strokes, SPML's own parts and hand-made filters.

All but the last work on the same frozen features. What is printed: mIoU in per cent over all images of a list (classes
that no stroke names are wrong), and the median seconds an image that spreading takes, features apart.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from _measure import parse
from scipy import ndimage
from torch import Tensor

from spml.classes import class_names
from spml.cli.exits import run
from spml.data.annotate import points, sample_seed, scribbles
from spml.data.lists import read_list
from spml.data.samples import UNLABELLED, Sample, read_sample_files
from spml.evaluation.iou import ConfusionMatrix
from spml.grouping import segment_by_kmeans
from spml.grouping.segments import segment_prototypes
from spml.inference.spread import Spreader
from spml.propagate import DenseCRF, label_share, random_walk, retrieve
from spml.propagate.spread import Field, fit, gather, probabilities, stroke_cells, walk

DEV = 6  # one line in so many of the sorted training list is `dev`, which settings are chosen on
LOGISTIC_PENALTY, NEAREST, SHARPNESS = 1e-4, 3, 20.0  # chosen on dev
CLUSTERS, NEIGHBOURS = (14, 14), 3  # k-means and retrieval
POWER, WALKED = 20, 64  # of SPML's random walk, as released
SIGMAS = (0.7, 1.0, 1.6, 3.5, 5.0, 10.0)  # of the hand-made filters


@dataclass
class Case:
    """An image with its strokes, ready to spread."""

    sample: Sample
    image: np.ndarray  # (H, W, 3) uint8
    target: np.ndarray  # (H, W) uint8
    strokes: np.ndarray  # (H, W) uint8
    field: Field
    cells: Tensor  # (D, h, w): the joined features
    cell: Tensor  # (n,): under the strokes
    ids: list[int]  # the k classes of the strokes
    label: Tensor  # (n,) in [0, k)


def first_strokes(label: np.ndarray, count: int) -> np.ndarray:
    """The first strokes of a scribble label, as a user might draw them: of each class the longest, then the next.

    Args:
        label: (H, W) uint8, 254 unlabelled.
        count: how many strokes; 0: all.
    """
    found = []  # round, minus pixels, pixels
    for index in np.unique(label[label < UNLABELLED]):
        pieces, number = ndimage.label(label == index, np.ones((3, 3)))
        sizes = np.bincount(pieces.ravel(), minlength=number + 1)[1:]
        for place, piece in enumerate(np.argsort(-sizes, kind="stable")):
            found.append((place, -int(sizes[piece]), int(index), pieces == piece + 1))
    drawn = np.full_like(label, UNLABELLED)
    for _, _, index, inside in sorted(found, key=lambda one: one[:3])[: count or None]:
        drawn[inside] = index
    return drawn


def draw(kind: str, sample: Sample, target: np.ndarray, instance: np.ndarray | None, classes: int) -> np.ndarray:
    """Strokes as `spml annotate --kind .. --seed 0` draws them."""
    seed = sample_seed(sample.name, 0)
    if kind == "points":
        return points(target, instance, seed=seed, num_classes=classes)
    half = scribbles(target, instance, seed=seed, num_classes=classes, length_ratio=0.5, dilation=1)
    return half if kind == "scribbles" else first_strokes(half, int(kind.split()[0]))


# Each method: a case -> scores (k, h, w) of its classes, on the cells or at the image's size; larger is better.


def ridge(case: Case) -> Tensor:
    _, weight = fit(gather(case.field.at(case.cell), torch.tensor(case.ids)[case.label]), {})
    return case.field.score(weight)


def logistic(case: Case) -> Tensor:
    """Logistic regression by L-BFGS: the mean of the cells' cross-entropies and a penalty."""
    rows = case.cells.flatten(1).T
    rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    under, weight = rows[case.cell], torch.zeros(rows.shape[1], len(case.ids), requires_grad=True)
    search = torch.optim.LBFGS([weight], max_iter=50, line_search_fn="strong_wolfe")

    def close() -> Tensor:
        search.zero_grad()
        loss = F.cross_entropy(under @ weight, case.label) + LOGISTIC_PENALTY / 2 * weight[:-1].square().sum()
        loss.backward()
        return loss

    search.step(close)
    return on_cells((rows @ weight.detach()).softmax(1), case)


def nearest(case: Case) -> Tensor:
    """The mean cosine of the three most similar cells under the strokes of each class."""
    rows = F.normalize(case.cells.flatten(1).T, dim=1)
    similarity = rows @ rows[case.cell].T
    columns = [similarity[:, case.label == k] for k in range(len(case.ids))]
    score = torch.stack([part.topk(min(NEAREST, part.shape[1]), dim=1)[0].mean(1) for part in columns], 1)
    return on_cells((SHARPNESS * score).softmax(1), case)


def segments_of(case: Case) -> Tensor:
    """(h w,): SPML's k-means segments of the features."""
    return segment_by_kmeans(case.cells[None], num_clusters=CLUSTERS).index


def retrieval(case: Case) -> Tensor:
    """Each segment by its nearest prototypes among the pieces of segments under the strokes, as SPML labels images."""
    rows, index = F.normalize(case.cells.flatten(1).T, dim=1), segments_of(case)
    prototype = segment_prototypes(rows, index, int(index.max()) + 1)
    key, piece = torch.unique(index[case.cell] * len(case.ids) + case.label, return_inverse=True)
    memory = segment_prototypes(rows[case.cell], piece, len(key))
    label, _ = retrieve(prototype, memory, key % len(case.ids), NEIGHBOURS)
    return on_cells(label_share(label, len(case.ids))[index], case)


def spml_walk(case: Case) -> Tensor:
    """SPML's random walk over the features' affinity, at stride 8, from the cells under the strokes."""
    score = torch.zeros(len(case.ids), case.cells[0].numel())
    score[case.label, case.cell] = 1
    score = score.reshape(-1, *case.field.size)
    small = [max(1, side // 2) for side in case.field.size]
    share = F.adaptive_avg_pool2d(score, small)
    walked = random_walk(F.adaptive_avg_pool2d(case.cells, small), share / share.sum((1, 2), keepdim=True))
    return walked / walked.sum(0, keepdim=True).clamp(min=1e-30)


def ridge_on_segments(case: Case) -> Tensor:
    """The regression's scores, averaged over SPML's k-means segments."""
    score, index = ridge(case).flatten(1), segments_of(case)
    count = torch.bincount(index).clamp(min=1)
    mean = torch.zeros(len(score), len(count)).index_add_(1, index, score) / count
    return on_cells(mean[:, index].T, case)


def forest(case: Case) -> Tensor:
    """Hand-made filters of several scales and a random forest of 100 trees on the pixels, as ilastik does."""
    from sklearn.ensemble import RandomForestClassifier

    planes = []
    for channel in np.moveaxis(case.image.astype(np.float32) / 255, 2, 0):
        for sigma in SIGMAS:
            planes.append(ndimage.gaussian_filter(channel, sigma))
            planes.append(ndimage.gaussian_laplace(channel, sigma))
            planes.append(ndimage.gaussian_gradient_magnitude(channel, sigma))
            planes.append(planes[-3] - ndimage.gaussian_filter(channel, 0.66 * sigma))
            second = [ndimage.gaussian_filter(channel, sigma, order) for order in ((2, 0), (1, 1), (0, 2))]
            planes += eigenvalues(*second)
            dy, dx = (ndimage.gaussian_filter(channel, sigma, order) for order in ((1, 0), (0, 1)))
            planes += eigenvalues(*(ndimage.gaussian_filter(part, sigma / 2) for part in (dy * dy, dy * dx, dx * dx)))
    rows = np.stack(planes, -1)
    said = np.isin(case.strokes, case.ids)
    trees = RandomForestClassifier(100, random_state=0, n_jobs=1).fit(rows[said], case.strokes[said])
    return torch.from_numpy(trees.predict_proba(rows.reshape(-1, rows.shape[-1])).T.reshape(-1, *rows.shape[:2]))


def eigenvalues(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> list[np.ndarray]:
    """Of the symmetric matrices [[a, b], [b, c]], the larger first."""
    middle, root = (a + c) / 2, np.sqrt(((a - c) / 2) ** 2 + b * b)
    return [middle + root, middle - root]


def on_cells(rows: Tensor, case: Case) -> Tensor:
    return rows.T.reshape(-1, *case.field.size)


def walked(method: Callable[[Case], Tensor]) -> Callable[[Case], Tensor]:
    return lambda case: walk(method(case), case.field.hold)


METHODS: dict[str, Callable[[Case], Tensor]] = {
    "ridge + walk (Spreader)": walked(ridge),
    "ridge": ridge,
    "logistic": logistic,
    "logistic + walk": walked(logistic),
    "nearest": nearest,
    "nearest + walk": walked(nearest),
    "segments, retrieval": retrieval,
    "segments, retrieval + walk": walked(retrieval),
    "SPML's random walk": spml_walk,
    "ridge on segments": ridge_on_segments,
    "filters + forest": forest,
}


def own_strokes(cases: Sequence[Case], names: Sequence[str], classes: int, crf: DenseCRF | None) -> dict[str, list]:
    """mIoU, with the CRF, seconds and with the CRF of each method on each image's own strokes."""
    rows = {}
    for name in names:
        matrices, seconds = (ConfusionMatrix(classes), ConfusionMatrix(classes)), ([], [])
        for case in cases:
            start = time.perf_counter()
            score = METHODS[name](case).float()
            score = F.interpolate(score[None], case.target.shape, mode="bilinear", align_corners=False)[0]
            label = np.array(case.ids, np.uint8)[score.argmax(0).numpy()]
            seconds[0].append(time.perf_counter() - start)
            matrices[0].update(label, case.target)
            if crf is not None:
                unary = probabilities(score) if name.startswith("ridge") else score
                matrices[1].update(np.array(case.ids, np.uint8)[crf.label(case.image, unary)], case.target)
                seconds[1].append(time.perf_counter() - start)
        figures = [100 * matrices[0].mean_iou(), 100 * matrices[1].mean_iou()]
        rows[name] = [*figures, *(statistics.median(part) if part else float("nan") for part in seconds)]
    return rows


def by_spreader(spreader: Spreader, cases: Sequence[Case], classes: int) -> dict[str, list]:
    """The public class: strokes of the image, of all others, of both; `complete`: the strokes name every class."""
    for case in cases:
        spreader.remember(case.image, case.strokes, case.sample.name)
    ways = {
        "own strokes": {"others": False},
        "own and others'": {},
        "the same, classes known": {"complete": True},
        "others' alone": None,
    }
    rows = {}
    for name, options in ways.items():
        matrix, seconds = ConfusionMatrix(classes), []
        for case in cases:
            if options is None:
                spreader.forget(case.sample.name)
            start = time.perf_counter()
            found = spreader.spread(case.image, **(options or {}))
            seconds.append(time.perf_counter() - start)
            if options is None:
                spreader.remember(case.image, case.strokes, case.sample.name)
            matrix.update(found.label, case.target)
        rows[name] = [100 * matrix.mean_iou(), float("nan"), statistics.median(seconds), float("nan")]
    for case in cases:
        spreader.forget(case.sample.name)
    return rows


def prepare(spreader: Spreader, samples: Sequence[Sample], kind: str, classes: int) -> list[Case]:
    """Images, strokes and features; images without a stroke are left out."""
    cases = []
    for sample in samples:
        image, target, instance = read_sample_files(sample)
        assert target is not None
        strokes = draw(kind, sample, target, instance, classes)
        _, field = spreader.features(image)
        cell, label = stroke_cells(torch.from_numpy(strokes), field.size, classes)
        ids, place = torch.unique(label, return_inverse=True)
        maps = [F.interpolate(level[None].float(), field.size, mode="bilinear")[0] for level in field.levels]
        cases.append(Case(sample, image, target, strokes, field, torch.cat(maps), cell, ids.tolist(), place))
    return [case for case in cases if case.ids]


def print_rows(title: str, rows: dict[str, list]) -> None:
    print(f"\n{title}\n{'':28}{'mIoU':>8}{'with CRF':>10}{'s':>9}{'with CRF':>10}")
    for name, (plain, refined, seconds, both) in rows.items():
        cells = [f"{plain:8.1f}", f"{refined:10.1f}", f"{seconds:9.3f}", f"{both:10.3f}"]
        print(name.ljust(28) + "".join(cell if "nan" not in cell else " " * len(cell) for cell in cells), flush=True)


def stroke_times(spreader: Spreader, cases: Sequence[Case], repeat: int) -> None:
    """Seconds for features and for a stroke on 640 x 480, with every image's strokes remembered."""
    for case in cases:
        spreader.remember(case.image, case.strokes, case.sample.name)
    rng, strokes = np.random.default_rng(0), np.full((480, 640), UNLABELLED, np.uint8)
    image = np.kron(rng.integers(0, 256, (15, 20, 3)), np.ones((32, 32, 1))).astype(np.uint8)
    strokes[100:104, 50:300], strokes[400:404, 300:600] = cases[0].ids[0], cases[-1].ids[-1]
    times: dict[str, list[float]] = {"features": [], "own strokes": [], "own and others'": []}
    for number in range(3 * repeat):
        image[0, 0] = number  # another image
        for name, call in (
            ("features", lambda: spreader.features(image)),
            ("own strokes", lambda: spreader.spread(image, strokes, others=False)),
            ("own and others'", lambda: spreader.spread(image, strokes)),
        ):
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    told = ", ".join(f"{name} {statistics.median(found):.3f} s" for name, found in times.items())
    print(f"\n640 x 480, {len(cases)} images remembered: {told}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data_dir", required=True, help="folder of train.txt, val.txt (image, mask, instances)")
    parser.add_argument("--part", default="dev", choices=("dev", "val"), help="dev: every sixth of the training list")
    parser.add_argument("--source", default="package:efficientnet_lite0", help="of the features, as Spreader takes it")
    parser.add_argument("--cache", default=None, help="folder that keeps the features")
    parser.add_argument("--kinds", nargs="+", default=["1 stroke", "3 strokes", "10 strokes", "scribbles", "points"])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--crf", action="store_true", help="refine each by the dense CRF, too")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each kind of strokes."""
    options = parse(__doc__ or "", arguments, add_arguments)
    folder = Path(options.data_dir)
    classes = len(class_names(path=folder / "classes.txt"))
    samples = read_list(folder / ("val.txt" if options.part == "val" else "train.txt"), folder, columns=2)
    if options.part == "dev":
        samples = sorted(samples, key=lambda sample: str(sample.image))[::DEV]
    samples = samples[: 3 if options.quick else None]
    spreader = Spreader(options.source, "cpu", classes=tuple(map(str, range(classes))), cache=options.cache)
    start = time.perf_counter()
    for sample in samples:
        spreader.features(read_sample_files(sample)[0])
    seconds = (time.perf_counter() - start) / len(samples)
    print(f"{options.part}: {len(samples)} images, features {seconds:.3f} s an image; {options.threads} threads")
    for kind in options.kinds:
        cases = prepare(spreader, samples, kind, classes)
        strokes = statistics.mean(ndimage.label(case.strokes < UNLABELLED, np.ones((3, 3)))[1] for case in cases)
        share = 100 * statistics.mean(float((case.strokes < UNLABELLED).mean()) for case in cases)
        title = f"{kind}: {strokes:.1f} an image, {share:.2f} % of the pixels"
        crf = DenseCRF() if options.crf else None
        print_rows(f"{title}; own strokes", own_strokes(cases, options.methods, classes, crf))
        print_rows(f"{kind}: Spreader", by_spreader(spreader, cases, classes))
    stroke_times(spreader, cases, options.repeat)


if __name__ == "__main__":
    run(main)
