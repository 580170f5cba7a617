"""Full masks of PASCAL VOC and SBD as grey PNGs of class ids."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat

from spml.data.prepare.convert import convert_folder, find_files
from spml.data.samples import IGNORE, DataError, read_image, read_label
from spml.errors import UserError
from spml.visualize.palette import voc_palette

Array = np.ndarray


def mask_from_mat(path: str | Path) -> Array:
    """The mask (H, W) uint8 of an SBD file: `GTcls.Segmentation` of a MATLAB file.

    Raises: DataError for a file that cannot be read or holds no such array of whole numbers from 0 to 255.
    """
    try:
        content = loadmat(path, squeeze_me=True, struct_as_record=False)
    except Exception as error:  # a damaged file can raise anything
        reason = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())[:200]
        raise DataError(f"cannot read {path} as a MATLAB file: {reason or type(error).__name__}") from error
    mask = getattr(content.get("GTcls"), "Segmentation", None)
    if mask is None:
        held = ", ".join(key for key in content if not key.startswith("__")) or "nothing"
        raise DataError(f"{path}: expected GTcls.Segmentation, as SBD's class masks have, got {held}")
    mask = np.atleast_2d(mask)
    if mask.ndim != 2 or mask.dtype.kind not in "iu" or (mask.size and not 0 <= mask.min() <= mask.max() <= 255):
        raise DataError(f"{path}: expected GTcls.Segmentation (H, W) of 0 to 255, got {mask.shape} {mask.dtype}")
    return mask.astype(np.uint8)


def mask_from_png(path: str | Path) -> Array:
    """The mask (H, W) uint8 of a PNG: grey values and palette indexes as they are, the colours of VOC's palette as ids.

    Raises: DataError for a file that cannot be read, or a pixel of a colour that is not VOC's (its place and colour).
    """
    try:
        with Image.open(path) as header:
            coloured = header.mode in ("RGB", "RGBA")
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise DataError(f"cannot read the mask {path}: {reason}") from error
    if not coloured:
        return read_label(path)
    colour = _number(read_image(path))
    palette = _number(voc_palette())
    order = np.argsort(palette)
    place = np.searchsorted(palette[order], colour).clip(max=len(order) - 1)
    mask = order[place].astype(np.uint8)
    wrong = palette[mask] != colour
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        red, green, blue = (int(colour[row, column]) >> shift & 255 for shift in (16, 8, 0))
        raise DataError(
            f"{path}: expected colours of VOC's palette, got ({red}, {green}, {blue}) at row {row}, column {column}"
        )
    return mask


def _number(colour: Array) -> Array:
    """(..., 3) uint8 as one integer each."""
    return colour.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def read_mask(path: Path, num_classes: int) -> Array:
    """A `.mat` or `.png` mask (H, W) uint8 of ids below `num_classes` and 255. Raises DataError, also for other ids."""
    mask = mask_from_mat(path) if path.suffix.lower() == ".mat" else mask_from_png(path)
    odd = np.setdiff1d(mask[mask >= num_classes], [IGNORE])
    if len(odd):
        raise DataError(f"{path}: expected class ids below {num_classes} and {IGNORE}, got {odd[:5].tolist()}")
    return mask


def convert_masks(
    source_dir: str | Path,
    save_dir: str | Path,
    *,
    num_classes: int = 21,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> str:
    """Write `save_dir/<name>.png` (uint8 ids, 255 void) for every `.mat` or `.png` mask of a folder.

    Returns: one line saying what was done. Raises: UserError for masks that cannot be used, a folder without
    any, or one that holds other masks, unless `overwrite`.
    """
    if Path(source_dir).resolve() == Path(save_dir).resolve():
        raise UserError(f"--save_dir {save_dir}: expected another folder than --source_dir")
    sources = find_files(source_dir, (".mat", ".png"))
    convert = partial(read_mask, num_classes=num_classes)
    things = {"num_classes": num_classes}
    return convert_folder("masks", things, sources, save_dir, convert, num_workers=num_workers, overwrite=overwrite)
