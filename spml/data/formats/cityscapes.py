"""Label images as Cityscapes has them: a grey PNG of ids each, and a table of names."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from spml.classes import IGNORE
from spml.data.annotate_list import write_label
from spml.data.formats.base import Export, Format, Source
from spml.data.formats.images import Images
from spml.data.formats.label_images import photographs, read_names, source_of, written
from spml.data.samples import DataError

ENDING = re.compile(r"(_gt(?:Fine|Coarse))?_label(Train)?Ids$")
PHOTO = "_leftImg8bit"
# The data set's own tables, by id and by training id.
IDS = tuple(
    "unlabeled,ego vehicle,rectification border,out of roi,static,dynamic,ground,road,sidewalk,parking,rail track,"
    "building,wall,fence,guard rail,bridge,tunnel,pole,polegroup,traffic light,traffic sign,vegetation,terrain,sky,"
    "person,rider,car,truck,bus,caravan,trailer,train,motorcycle,bicycle".split(",")
)
TRAIN_IDS = tuple(
    "road,sidewalk,building,wall,fence,pole,traffic light,traffic sign,vegetation,terrain,sky,person,rider,car,truck,"
    "bus,train,motorcycle,bicycle".split(",")
)
VOID = 4  # the first ids of the data set's own table: not labelled, the car with the camera, the frame


def recognise(source: Path) -> bool:
    """A folder with *_labelIds.png below it, or one of grey PNGs with a table of names."""
    if not source.is_dir():
        return False
    masks = _masks(source)
    return bool(masks) and (ENDING.search(masks[0].stem) is not None or (_has_table(source) and _is_grey(masks[0])))


def _has_table(source: Path) -> bool:
    try:
        return bool(read_names(source))
    except DataError:
        return False


def _is_grey(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.mode == "L"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _masks(source: Path) -> list[Path]:
    """The label images: those with Cityscapes' ending, by id before by training id; without any, the folder's PNGs."""
    for ending in ("labelIds", "labelTrainIds"):
        found = sorted(source.glob(f"**/*_{ending}.png"))
        if found:
            return found
    return sorted(source.glob("*.png"))


def _stems(path: Path) -> Sequence[str]:
    plain = ENDING.sub("", path.stem)
    return (f"{plain}{PHOTO}", plain) if plain != path.stem else (plain,)


def read(source: Path, images: Images, given: tuple[str, ...] = ()) -> Source:
    """The label images below a folder. Raises DataError for bad ones, and for photographs missing.

    Names come from a file beside the PNGs (see `read_names`), else from `given`, else from Cityscapes' own table, whose
    first four ids are void.
    """
    masks = _masks(source) if source.is_dir() else [source]
    if not masks:
        raise DataError(f"{source}: expected label images, *_labelIds.png or grey PNGs, found none")
    names = read_names(source if source.is_dir() else source.parent) or given
    pairs = photographs(masks, images, _stems)
    ending = ENDING.search(masks[0].stem)
    if names or ending is None:
        return source_of(pairs, names)
    if ending[2]:
        return source_of(pairs, TRAIN_IDS)
    return source_of(pairs, IDS, change=lambda mask: np.where(mask < VOID, IGNORE, mask).astype(np.uint8))


def write(export: Export) -> None:
    """gtFine/<name>_gtFine_labelIds.png and names.txt (`id name`); photographs go to leftImg8bit/."""
    for annotation, label in written(export):
        write_label(export.place(f"gtFine/{annotation.stem}_gtFine_labelIds.png"), label)
        suffix = annotation.name[len(annotation.stem) :]
        export.take(annotation, f"leftImg8bit/{annotation.stem}{PHOTO}{suffix}")
    lines = [f"{place} {name}\n" for place, name in enumerate(export.names)]
    export.place("names.txt").write_text("".join(lines), encoding="utf-8")


FORMAT = Format("Cityscapes: grey PNGs of ids and a table of names", recognise, read, write)
