"""Label PNGs that know their classes by key, so that they survive a change of the list of classes."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from spml.app.state import Class
from spml.classes import IGNORE, UNLABELLED
from spml.errors import UserError
from spml.files import write_atomically
from spml.records import hash_array

KEYS, OWN = "classes", "studio"  # text chunks: keys of the ids 0, 1, ..; a hash of the pixels, if this file wrote them
NOBODY = (128, 128, 128)  # the colour of pixels without a class


def write_label(path: Path, label: np.ndarray, classes: Sequence[Class]) -> None:
    """Write (H, W) uint8 in ids of `classes`, 254 none, as a palette PNG. Raises UserError."""
    picture = Image.fromarray(label)
    picture.putpalette(palette(classes).tobytes())
    notes = PngImagePlugin.PngInfo()
    notes.add_text(KEYS, json.dumps([one.key for one in classes]))
    notes.add_text(OWN, hash_array(label))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=notes)
    write_atomically(path, lambda file: file.write(buffer.getvalue()))


def read_label(path: Path, classes: Sequence[Class]) -> np.ndarray | None:
    """(H, W) uint8 in ids of `classes`, 254 where there is none, 255 void; None where there is no file.

    Raises:
        UserError: a file that cannot be read.
    """
    if not path.is_file():
        return None
    label, keys, _ = _open(path)
    ids = {one.key: index for index, one in enumerate(classes)}
    table = np.full(256, UNLABELLED, np.uint8)
    table[IGNORE] = IGNORE
    for index, key in enumerate(keys):
        table[index] = ids.get(key, UNLABELLED)
    return table[label]


def foreign_label(path: Path, own_too: bool = False) -> np.ndarray | None:
    """(H, W) uint8 of a label PNG as it is; None for one of our own, unless `own_too`. Raises UserError."""
    label, _, digest = _open(path)
    return None if digest == hash_array(label) and not own_too else label


def _open(path: Path) -> tuple[np.ndarray, list[str], str]:
    """Pixels, keys and hash."""
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L"):
                raise ValueError(f"mode {picture.mode}, expected 8-bit grey or palette")
            label = np.array(picture)
            keys = json.loads(picture.info.get(KEYS, "[]"))
            return label, [str(key) for key in keys][:256], str(picture.info.get(OWN, ""))
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the labels in {path}: {error}") from error


def palette(classes: Sequence[Class]) -> np.ndarray:
    """(256, 3) uint8: the colours of classes; grey for all other values."""
    colours = np.tile(np.array(NOBODY, np.uint8), (256, 1))
    for index, one in enumerate(classes):
        colours[index] = [int(one.color[place : place + 2], 16) for place in (1, 3, 5)]
    return colours


def resized(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels at another size (H, W), by the nearest pixel."""
    return label if label.shape == size else cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
