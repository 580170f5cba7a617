"""The quickstart's picture, and plain text tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from spml.files import write_atomically
from spml.visualize.figures import (
    TITLE_SHARE,
    draw_borders,
    embeddings_to_rgb,
    grid,
    legend,
    mean_colours,
    overlay,
    pale,
    resize,
    width_at,
)
from spml.visualize.palette import voc_palette

if TYPE_CHECKING:
    from torch import Tensor

WHITE = (255, 255, 255)
YELLOW = (255, 230, 0)
ANNOTATION_ALPHA = 0.9
LABEL_ALPHA = 0.65


@dataclass(frozen=True)
class PictureRow:
    """One row of the picture, for an image of H x W pixels. Labels: class ids, 254 unlabelled, 255 ignored."""

    image: np.ndarray  # (H, W, 3) uint8
    annotation: np.ndarray  # (H, W) class ids of the weak annotation
    oversegmentation: np.ndarray  # (H, W) ids
    embedding: np.ndarray | Tensor  # (C, h, w) float, any size
    segments: np.ndarray  # (H, W) ids of the clusters of the embedding
    prediction: np.ndarray  # (H, W) class ids
    truth: np.ndarray  # (H, W) class ids
    baseline: np.ndarray | None = None  # (H, W) class ids that another method predicts


def quickstart_picture(
    rows: Sequence[PictureRow],
    path: str | Path,
    classes: Sequence[str],
    *,
    cell_height: int = 160,
) -> None:
    """Write a picture of inputs, embedding and predictions, one row for each image, with a legend below.

    Columns: image, annotation, over-segmentation, embedding as PCA colours (all rows share them), segments, the
    baseline's prediction where the rows have one, prediction, ground truth.

    Args:
        rows: one or more, all with a baseline or none.
        path: the PNG file, written in one step.
        classes: names; the legend shows those that occur.
        cell_height: of each image in the picture, in pixels.

    Raises:
        ValueError: no rows, or a baseline in some of them only.
        DataError: a path that cannot be written to.
    """
    if len({row.baseline is None for row in rows}) != 1:
        raise ValueError(f"expected rows that all have a baseline or none, got {len(rows)} rows")
    titles = ["image", "annotation", "over-segmentation", "embedding (PCA)", "segments", "SPML", "ground truth"]
    if rows[0].baseline is not None:
        titles.insert(5, "partial cross-entropy")
    colours = embeddings_to_rgb([row.embedding for row in rows])
    cells = [_cells(row, colour, cell_height) for row, colour in zip(rows, colours, strict=True)]
    sheet = grid(cells, titles, cell_height)
    present = np.unique(np.concatenate([label.reshape(-1) for row in rows for label in _labels(row)]))
    present = present[present < len(classes)]
    key = legend(
        [classes[index] for index in present], voc_palette()[present], sheet.shape[1], round(TITLE_SHARE * cell_height)
    )
    picture = Image.fromarray(np.concatenate([sheet, key]))
    write_atomically(path, lambda file: picture.save(file, "PNG", optimize=True))


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """A plain text table: the first column aligned left, the others right, a line under the header.

    Raises:
        ValueError: a row with another number of cells than the header.
    """
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    if any(len(line) != len(header) for line in lines):
        raise ValueError(f"expected {len(header)} cells in each row, got {sorted({len(line) for line in lines})}")
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    aligned = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    return "\n".join("  ".join(line) for line in aligned)


def _labels(row: PictureRow) -> list[np.ndarray]:
    found = [row.annotation, row.prediction, row.truth]
    return found if row.baseline is None else [*found, row.baseline]


def _cells(row: PictureRow, embedding: np.ndarray, height: int) -> list[np.ndarray]:
    """The pictures of one row. They are scaled before borders are drawn, so that borders are one pixel wide."""
    width = width_at(height, row.image)
    image = resize(row.image, height, width)
    parts, segments = resize(row.oversegmentation, height, width), resize(row.segments, height, width)
    cells = [
        image,
        overlay(pale(image), resize(row.annotation, height, width), ANNOTATION_ALPHA),
        draw_borders(image, parts, YELLOW),
        resize(embedding, height, width),
        draw_borders(mean_colours(image, segments), segments, WHITE),
    ]
    for label in (row.baseline, row.prediction, row.truth):
        if label is not None:
            label = resize(label, height, width)
            cells.append(draw_borders(overlay(image, label, LABEL_ALPHA), label, WHITE))
    return cells
