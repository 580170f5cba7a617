"""Pictures of labels, segments and embeddings; the quickstart's picture; plain text tables."""

from spml.visualize.figures import (
    draw_borders,
    embedding_to_rgb,
    embeddings_to_rgb,
    grid,
    legend,
    mean_colours,
    overlay,
)
from spml.visualize.palette import class_palette, colourise, voc_palette
from spml.visualize.report import PictureRow, quickstart_picture, table

__all__ = [
    "PictureRow",
    "class_palette",
    "colourise",
    "draw_borders",
    "embedding_to_rgb",
    "embeddings_to_rgb",
    "grid",
    "legend",
    "mean_colours",
    "overlay",
    "quickstart_picture",
    "table",
    "voc_palette",
]
