"""Pictures of training data beside what was made of them, to see at a glance whether it is what one meant."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from scipy import ndimage

from spml.classes import UNLABELLED
from spml.files import write_atomically
from spml.visualize.figures import INK, draw_borders, grid, legend, mean_colours, overlay, pale, resize, width_at
from spml.visualize.palette import class_palette

PICTURES = "pictures"  # the folder, beside what they show
COUNT = 6  # images that are pictured
HEIGHT = 320  # of a photograph in them, in pixels
YELLOW, WHITE = (255, 230, 0), (255, 255, 255)

Item = TypeVar("Item")


def chosen(items: Sequence[Item], count: int = COUNT) -> list[Item]:
    """At most `count` items, evenly spread."""
    places = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[round(place)] for place in places.tolist()]


def annotation_picture(
    image: np.ndarray,
    label: np.ndarray,
    path: str | Path,
    classes: Sequence[str] = (),
    background: int | None = 0,
) -> None:
    """Write the photograph, the annotation over it, and the names and colours of its classes.

    Args:
        image: (H, W, 3) uint8.
        label: (H, W) class ids, 254 unlabelled, 255 void; thin lines stay visible where the picture is smaller.
        path: the PNG file, written in one step.
        classes: names; those that lack one are called by their number.
        background: the class that is black.
    """
    height = min(HEIGHT, len(image))
    small, ids = resize(image, height, width_at(height, image)), _thick(label, height)
    annotated = overlay(pale(small), ids, 0.85, background)
    # An outline beside it, which hides no thin line: some colours of the palette are greys.
    annotated[(ids >= UNLABELLED) & (ndimage.minimum_filter(ids, 3) < UNLABELLED)] = INK
    present = [int(value) for value in np.unique(label) if value < UNLABELLED]
    _write(path, grid([[small, annotated]], ["image", "annotation"], height), present, classes, background)


def tags_picture(
    image: np.ndarray, tags: Sequence[int], path: str | Path, classes: Sequence[str] = (), background: int | None = 0
) -> None:
    """Write the photograph with the names of its tags below. Arguments as in `annotation_picture`."""
    height = min(HEIGHT, len(image))
    small = resize(image, height, width_at(height, image))
    _write(path, grid([[small]], ["tags"], height), tags, classes, background)


def regions_picture(image: np.ndarray, regions: np.ndarray, path: str | Path) -> None:
    """Write the photograph, the borders of its regions over it, and the regions in their mean colours.

    Args:
        image: (H, W, 3) uint8.
        regions: (H, W) ids of an over-segmentation.
        path: the PNG file, written in one step.
    """
    height = min(HEIGHT, len(image))
    width = width_at(height, image)
    small, ids = resize(image, height, width), resize(regions, height, width)
    count = len(np.unique(regions))
    cells = [small, draw_borders(small, ids, YELLOW), draw_borders(mean_colours(small, ids), ids, WHITE)]
    titles = ["image", f"{count} regions", "mean colours"]
    _write(path, grid([cells], titles, height), [], (), 0)


def _thick(label: np.ndarray, height: int) -> np.ndarray:
    """A label at another height, its lines at least as thick as the step from pixel to pixel."""
    step = -(-len(label) // height)
    if step > 1:  # class ids are below 254, so that the smallest value of a neighbourhood is a class where one is near
        label = ndimage.minimum_filter(label, step)
    return resize(label, height, width_at(height, label))


def _write(
    path: str | Path, sheet: np.ndarray, present: Sequence[int], classes: Sequence[str], background: int | None
) -> None:
    if present:
        names = [classes[index] if index < len(classes) else f"class {index}" for index in present]
        key = legend(names, class_palette(background)[list(present)], sheet.shape[1])
        sheet = np.concatenate([sheet, key])
    write_atomically(path, lambda file: Image.fromarray(sheet).save(file, "PNG", optimize=True))
