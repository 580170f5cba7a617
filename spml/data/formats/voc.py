"""PASCAL VOC's label images: a palette PNG each, whose indexes are classes and 255 void."""

import io
from pathlib import Path

from PIL import Image

from spml.classes import VOC_CLASSES
from spml.data.formats.base import Export, Format, Source
from spml.data.formats.images import Images
from spml.data.formats.label_images import photographs, read_names, source_of, written
from spml.data.samples import DataError
from spml.visualize.palette import voc_palette

FOLDERS = ("SegmentationClass", "SegmentationClassPNG", "SegmentationClassNpy")
DEVKIT = "SegmentationClass"  # the folder's name in VOC's own data, whose names everyone knows
LISTS = "ImageSets/Segmentation/default.txt"


def recognise(source: Path) -> bool:
    """A folder with SegmentationClass in it, or of palette PNGs."""
    return bool(_folder(source)) or any(_is_palette(path) for path in sorted(_masks(source))[:3])


def _folder(source: Path) -> Path | None:
    found = [path for path in (source, *sorted(source.glob("**/Segmentation*"))) if path.name in FOLDERS]
    return next((path for path in found if path.is_dir()), None)


def _masks(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix.lower() == ".png" else []
    return sorted((_folder(source) or source).glob("**/*.png" if _folder(source) else "*.png"))


def _is_palette(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.mode == "P"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def read(source: Path, images: Images, given: tuple[str, ...] = ()) -> Source:
    """The label images of a folder, ids as they are. Raises DataError for bad ones, and for photographs missing.

    Names come from a file beside the PNGs (see `read_names`), else from `given`; VOC's own folder has VOC's names.
    """
    masks = _masks(source)
    if not masks:
        raise DataError(
            f"{source}: expected VOC's label images, PNGs in SegmentationClass or in the folder, found none"
        )
    folder = _folder(source) or (source if source.is_dir() else source.parent)
    names = read_names(folder) or given
    pairs = photographs(masks, images, lambda path: (path.relative_to(folder).with_suffix("").as_posix(),))
    if not names and folder.name == DEVKIT and (folder.parent / "Annotations").is_dir():
        names = VOC_CLASSES
    return source_of(pairs, names)


def write(export: Export) -> None:
    """SegmentationClass/<name>.png, class_names.txt and a list; photographs go to JPEGImages/."""
    palette = voc_palette().ravel().tolist()
    stems = []
    for annotation, label in written(export):
        image, file = Image.fromarray(label), io.BytesIO()
        image.putpalette(palette)
        image.save(file, format="PNG")
        export.place(f"{DEVKIT}/{annotation.stem}.png").write_bytes(file.getvalue())
        export.take(annotation, f"JPEGImages/{annotation.name}")
        stems.append(annotation.stem)
    export.place("class_names.txt").write_text("".join(f"{name}\n" for name in export.names), encoding="utf-8")
    export.place(LISTS).write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


FORMAT = Format("PASCAL VOC's label images: palette PNGs", recognise, read, write)
