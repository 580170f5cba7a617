"""Pictures of a comparison's report: the same test images under every method, and the segments that retrieval finds."""

from collections.abc import Sequence

import numpy as np
import torch

from spml.classes import UNLABELLED
from spml.data.samples import Sample, read_image, read_label
from spml.pipelines.compared_run import READ_OUT, ComparedRun
from spml.pipelines.contextual import Query, Segment, contextual_retrieval
from spml.pipelines.result import Found
from spml.visualize.figures import draw_borders, overlay, pale
from spml.visualize.html import LONGEST, Html, css_colour, figure, key, picture, shrink, tag
from spml.visualize.palette import class_palette
from spml.visualize.pictures import chosen

IMAGES = 8  # of the gallery
WHITE, RED = (255, 255, 255), (225, 40, 30)
ALPHA = 0.65


def gallery(rows: Sequence[Found], predictor: str, names: Sequence[str]) -> Html:
    """Some test images: photograph and truth, then for each row its labels and its errors in red, of its first seed."""
    rows = [one for one in rows if one.runs]
    background = rows[0].runs[0].config.dataset.background
    seen, parts = set[int](), []
    for sample in chosen(rows[0].runs[0].samples("test"), IMAGES):
        figures, classes = _line(sample, rows, predictor, background)
        seen |= classes
        parts += [tag("h3", sample.name), tag("div", *figures, class_="figures")]
    present = sorted(index for index in seen if index < len(names))
    palette = class_palette(background)
    legend = key([names[index] for index in present], [css_colour(palette[index]) for index in present])
    note = (
        f"By the {READ_OUT[predictor]}, of the first seed. Beside each method's labels: its errors in red; below: the "
        "share of the image's pixels that are right."
    )
    return tag("div", tag("p", note, class_="note"), legend, *parts)


def _line(sample: Sample, rows: Sequence[Found], predictor: str, background: int | None) -> tuple[list[Html], set[int]]:
    """The figures of one image, and the classes in them."""
    image, truth = shrink(read_image(sample.image), LONGEST), _label(sample.label)
    size_of = shrink(truth, LONGEST)
    classes = set(np.unique(truth).tolist())
    figures = [
        figure("photograph", picture(image, f"{sample.name}, photograph")),
        figure("truth", picture(_coloured(image, size_of, background), f"{sample.name}, truth")),
    ]
    for one in rows:
        label = read_label(one.runs[0].predictions(predictor) / f"{sample.name}.png")
        classes |= set(np.unique(label).tolist())
        counted = truth < UNLABELLED
        right = float((label == truth)[counted].mean()) if counted.any() else float("nan")
        pictures = (
            picture(_coloured(image, shrink(label, LONGEST), background), f"{sample.name}, labels of {one.row.key}"),
            picture(_errors(image, shrink(label, LONGEST), size_of), f"{sample.name}, errors of {one.row.key}"),
        )
        figures.append(figure(f"{one.row.key}: {100 * right:.0f} % right", *pictures))
    return figures, classes


def _label(source: object) -> np.ndarray:
    assert source is not None, "the list was read with two columns"
    return read_label(source)  # type: ignore[arg-type]


def _coloured(image: np.ndarray, label: np.ndarray, background: int | None) -> np.ndarray:
    return draw_borders(overlay(image, label, ALPHA, background), label, WHITE)


def _errors(image: np.ndarray, label: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The image in pale grey, wrong pixels in red; pixels that do not count stay grey."""
    painted = pale(image)
    painted[(label != truth) & (truth < UNLABELLED)] = RED
    return painted


def retrieval_section(run: ComparedRun, device: torch.device, names: Sequence[str]) -> Html:
    """The queries of `contextual_retrieval` with their neighbours, or a line that says why there are none."""
    queries = contextual_retrieval(run, device)
    if not queries:
        return tag("p", "The memory of this run does not say where its prototypes come from.", class_="note")
    note = (
        f"{run.row}, seed {run.seed}: the largest right and the largest wrong segments of some test images, and to the "
        "right of each the segments of the training set with the nearest embeddings (cosine), one an image. Under a "
        "training segment stands the class that its annotation gives it."
    )
    parts = [tag("p", note, class_="note")]
    for right, heading in ((True, "Right"), (False, "Wrong")):
        found = [_query(query, names) for query in queries if query.right == right]
        parts += [tag("h3", heading), *found] if found else []
    return tag("div", *parts)


def _query(query: Query, names: Sequence[str]) -> Html:
    verdict = "right" if query.right else "wrong"
    told = tag(
        "span",
        *("query: ", tag("b", names[query.truth]), ", labelled "),
        *(tag("b", names[query.segment.label] if query.segment.label < len(names) else "nothing", class_=verdict),),
        f" ({query.segment.name})",
    )
    first = figure(told, picture(query.segment.picture, f"query in {query.segment.name}"))
    return tag("div", first, *(_neighbour(one, query, names) for one in query.nearest), class_="figures small lead")


def _neighbour(one: Segment, query: Query, names: Sequence[str]) -> Html:
    verdict = "right" if one.label == query.truth else "wrong"
    told = tag("span", tag("b", names[one.label], class_=verdict), f" {one.similarity:.2f} ({one.name})")
    return figure(told, picture(one.picture, f"segment in {one.name}"))
