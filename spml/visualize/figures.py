"""Pictures of images, labels, segments and embeddings, as (H, W, 3) uint8 arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spml.classes import UNLABELLED
from spml.visualize.palette import colourise

if TYPE_CHECKING:
    from torch import Tensor

GAP = 6
TITLE_SHARE = 0.14  # height of titles in cell heights: still readable where a README shows the picture at half size
SMALLEST_FONT = 9
INK = (30, 30, 30)


def pca_colours(pixels: np.ndarray) -> np.ndarray:
    """The three main directions of N vectors as red, green and blue.

    Each direction is spread from its 1 % to its 99 % quantile over 0..255. Signs are fixed (the entry of largest size
    is positive), so that equal vectors get equal colours on every machine. Directions without variance are mid grey.

    Args:
        pixels: (N, C) float, N and C from 1 on.

    Returns:
        (N, 3) uint8.
    """
    centred = pixels - pixels.mean(0)  # (N, C)
    variance, direction = np.linalg.eigh(centred.T @ centred / len(pixels))  # ascending
    direction = direction[:, ::-1][:, :3]  # (C, 3)
    varied = variance[::-1][:3] > 1e-12 * max(float(np.square(pixels).mean()), 1e-30)
    strongest = np.take_along_axis(direction, np.abs(direction).argmax(0)[None], axis=0)  # (1, 3)
    score = centred @ (direction * np.where(strongest < 0, -1, 1))  # (N, 3)
    low, high = np.quantile(score, [0.01, 0.99], axis=0)
    colour = np.full((len(pixels), 3), 127.5)
    spread = np.where(high > low, high - low, 1)
    colour[:, : len(varied)] = np.where(varied & (high > low), 255 * (score - low) / spread, 127.5)
    return np.clip(np.rint(colour), 0, 255).astype(np.uint8)


def embedding_to_rgb(embedding: np.ndarray | Tensor) -> np.ndarray:
    """An embedding as colours, by `pca_colours`: alike pixels look alike. (C, H, W) float -> (H, W, 3) uint8."""
    return embeddings_to_rgb([embedding])[0]


def embeddings_to_rgb(embeddings: Sequence[np.ndarray | Tensor]) -> list[np.ndarray]:
    """Embeddings of several images in one set of colours, so that alike pixels look alike across images.

    Args:
        embeddings: (C, H, W) float each, of one C; sizes may differ.

    Returns:
        (H, W, 3) uint8 for each.
    """
    arrays = [e if isinstance(e, np.ndarray) else e.detach().cpu().float().numpy() for e in embeddings]
    pixels = [np.moveaxis(array.astype(np.float64), 0, -1).reshape(-1, len(array)) for array in arrays]  # (H W, C)
    colours = np.split(pca_colours(np.concatenate(pixels)), np.cumsum([len(part) for part in pixels])[:-1])
    return [colour.reshape(*array.shape[1:], 3) for colour, array in zip(colours, arrays, strict=True)]


def overlay(image: np.ndarray, label: np.ndarray, alpha: float = 0.6, background: int | None = 0) -> np.ndarray:
    """Class colours over an image; where the label is 254 (unlabelled) or 255 (ignored), the image stays as it is.

    Args:
        image: (H, W, 3) uint8.
        label: (H, W) integers in 0..255.
        alpha: weight of the colour, 0..1.
        background: the class that is black; see `spml.visualize.palette.class_palette`.

    Returns:
        (H, W, 3) uint8.
    """
    mixed = np.rint((1 - alpha) * image + alpha * colourise(label, background)).astype(np.uint8)
    return np.where((label < UNLABELLED)[..., None], mixed, image)


def pale(image: np.ndarray) -> np.ndarray:
    """An image as light grey, on which colours stand out: (H, W, 3) uint8 -> the same."""
    return np.rint(0.45 * image.mean(2, keepdims=True).repeat(3, 2) + 0.55 * 255).astype(np.uint8)


def draw_borders(
    image: np.ndarray, segment_ids: np.ndarray, colour: tuple[int, int, int] = (255, 255, 0)
) -> np.ndarray:
    """Paint the pixels whose right or lower neighbour is of another segment.

    Args:
        image: (H, W, 3) uint8.
        segment_ids: (H, W) integers.
        colour: RGB, 0..255.

    Returns:
        (H, W, 3) uint8, a copy.
    """
    border = np.zeros(segment_ids.shape, dtype=bool)
    border[:, :-1] |= segment_ids[:, :-1] != segment_ids[:, 1:]
    border[:-1] |= segment_ids[:-1] != segment_ids[1:]
    painted = image.copy()
    painted[border] = colour
    return painted


def mean_colours(image: np.ndarray, segment_ids: np.ndarray) -> np.ndarray:
    """Every segment in the mean colour of its pixels: (H, W, 3) uint8 and (H, W) integers -> (H, W, 3) uint8."""
    _, index = np.unique(segment_ids, return_inverse=True)
    index = index.reshape(-1)
    count = np.bincount(index)
    total = np.stack([np.bincount(index, weights=channel) for channel in image.reshape(-1, 3).T], axis=1)  # (S, 3)
    return np.rint(total / count[:, None]).astype(np.uint8)[index].reshape(image.shape)


def resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w) ids by their nearest pixel, (h, w, 3) uint8 colours smoothly, to (height, width)."""
    if picture.ndim == 2:
        rows = (np.arange(height) + 0.5) * picture.shape[0] / height
        columns = (np.arange(width) + 0.5) * picture.shape[1] / width
        return picture[rows.astype(int)[:, None], columns.astype(int)]
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def width_at(height: int, picture: np.ndarray) -> int:
    """The width that keeps a picture's proportions at another height, at least 1."""
    return max(1, round(picture.shape[1] * height / picture.shape[0]))


def grid(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], cell_height: int = 160) -> np.ndarray:
    """Pictures in rows and columns under column titles, on white.

    Every picture keeps its proportions: it is scaled to `cell_height`, columns are as wide as their widest picture.

    Args:
        rows: pictures (h, w, 3) uint8 of any size, as many in each row as there are titles.
        titles: one for each column.
        cell_height: pixels.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: no row, or a row with another number of pictures than there are titles.
    """
    if not rows or any(len(row) != len(titles) for row in rows):
        raise ValueError(f"expected {len(titles)} pictures in each row, got {[len(row) for row in rows]}")
    cells = [[resize(cell, cell_height, width_at(cell_height, cell)) for cell in row] for row in rows]
    widths = [max(row[column].shape[1] for row in cells) for column in range(len(titles))]
    left = GAP + np.concatenate([[0], np.cumsum([width + GAP for width in widths])])
    font_size = max(SMALLEST_FONT, round(TITLE_SHARE * cell_height))
    top = round(1.6 * font_size)
    sheet = Image.new("RGB", (int(left[-1]), top + len(cells) * (cell_height + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        middle = (left[column] + widths[column] / 2, top / 2)
        draw.text(middle, title, fill=INK, font=_fitting_font(title, font_size, widths[column]), anchor="mm")
        for line, row in enumerate(cells):
            x = left[column] + (widths[column] - row[column].shape[1]) // 2
            sheet.paste(Image.fromarray(row[column]), (int(x), top + line * (cell_height + GAP)))
    return np.array(sheet)


def legend(names: Sequence[str], colours: np.ndarray, width: int, font_size: int = 15) -> np.ndarray:
    """Colour patches with names beside them, in lines of at most `width` pixels, on white.

    Args:
        names: one or more.
        colours: (len(names), 3) uint8.
        width: of the picture, in pixels.
        font_size: of the names, in pixels.

    Returns:
        (H, width, 3) uint8.
    """
    font, patch, line_height = ImageFont.load_default(font_size), font_size, round(1.7 * font_size)
    places, x, y = [], GAP, 0
    for name in names:
        needed = int(patch + 6 + font.getlength(name) + 16)
        if x > GAP and x + needed > width:
            x, y = GAP, y + line_height
        places.append((x, y))
        x += needed
    sheet = Image.new("RGB", (width, y + line_height), "white")
    draw = ImageDraw.Draw(sheet)
    for name, colour, (x, y) in zip(names, colours, places, strict=True):
        top = y + (line_height - patch) // 2
        draw.rectangle((x, top, x + patch, top + patch), fill=tuple(int(value) for value in colour), outline=INK)
        draw.text((x + patch + 6, y + line_height / 2), name, fill=INK, font=font, anchor="lm")
    return np.array(sheet)


def _fitting_font(text: str, largest: int, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The built-in font at the largest size from `largest` down at which `text` is no wider than `width`."""
    for size in range(largest, SMALLEST_FONT - 1, -1):
        font = ImageFont.load_default(size)
        if font.getlength(text) <= width:
            break
    return font
