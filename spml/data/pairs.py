"""Lists of a user's own folder: its own lists where it has some, else its images beside label PNGs of the same name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spml.data.lists import list_content, write_list
from spml.data.samples import DataError
from spml.data.tags import tag_words

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
IMAGE_FOLDERS = ("images", "JPEGImages", "photos", ".")  # the first that has images
LABEL_FOLDERS = ("{kinds}", "{kind}", "weak", "labels")  # masks/ holds full masks, and serves that kind alone
LISTS = ("lists/{kind}.txt", "train_{kind}.txt", "train.txt")
TAGS = "tags.txt"  # in the folder: `name class class ..`, see `spml.data.tags`
TEST_LISTS = ("val.txt", "test.txt", "lists/val.txt")


Pair = tuple[Path] | tuple[Path, Path]  # an image alone, or with its label


@dataclass(frozen=True)
class OwnLists:
    """What a folder has of lists; None where it has none."""

    train: Path | None
    test: Path | None


def find_lists(folder: str | Path, kind: str) -> OwnLists:
    """The lists of a folder, of annotations of this kind (scribble, point, box, tag, mask).

    Training: lists/<kind>.txt, train_<kind>.txt or train.txt. Test: val.txt, test.txt or lists/val.txt.
    """
    folder = Path(folder)
    found = [
        next((path for name in names if (path := folder / name.format(kind=kind)).is_file()), None)
        for names in (LISTS, TEST_LISTS)
    ]
    return OwnLists(*found)


def find_pairs(folder: str | Path, kind: str) -> tuple[list[Path], list[Pair]]:
    """The images of a folder, and those of them that have a label PNG, with it; paths relative to `folder`.

    Images are in images/, JPEGImages/, photos/ or the folder itself; labels in scribbles/ (points/, boxes/, masks/),
    <kind>/, weak/ or labels/, under the name of their image with the suffix .png. For tags, the images that tags.txt
    names, alone.

    Raises:
        DataError: no image; no folder of labels; no label that has the name of an image; or no tags.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"no folder {folder}")
    names = [name.format(kind=kind, kinds="boxes" if kind == "box" else f"{kind}s") for name in LABEL_FOLDERS]
    images = next((found for name in IMAGE_FOLDERS if (found := _images(root, root / name, names))), [])
    if not images:
        raise DataError(f"{folder}: no image (.jpg, .png, ..) in it or in {', '.join(IMAGE_FOLDERS[:-1])}")
    if kind == "tag":
        named = _tagged(root / TAGS)
        tagged: list[Pair] = [(image,) for image in images if image.stem in named]
        if not tagged:
            raise DataError(
                f"{root / TAGS}: no line names one of the {len(images)} images; expected `name class class ..`"
            )
        return images, tagged
    for name in names:
        labels = {path.stem: path.relative_to(root) for path in sorted((root / name).glob("*.png"))}
        pairs: list[Pair] = [(image, labels[image.stem]) for image in images if image.stem in labels]
        if pairs:
            return images, pairs
    raise DataError(
        f"{folder}: none of its {len(images)} images has a label: expected PNGs of class ids (254 unlabelled, 255 "
        f"void), named as the images, in one of {', '.join(names)}, or a list {LISTS[0].format(kind=kind)}"
    )


def write_pairs(
    folder: str | Path, kind: str, train_list: str | Path, all_list: str | Path, *, overwrite: bool = False
) -> tuple[int, int]:
    """Write the list of images with labels and the list of all images, and return their lengths.

    Raises:
        DataError: as `find_pairs`; without `overwrite`, a list with other lines in the place of one of them.
    """
    images, pairs = find_pairs(folder, kind)
    lists: list[tuple[Path, Sequence[Pair]]] = [(Path(train_list), pairs), (Path(all_list), [(one,) for one in images])]
    for path, rows in lists:
        if not overwrite and path.is_file() and path.read_bytes() != list_content(path, rows).encode():
            raise DataError(f"{path}: holds other lines already: expected another --save_dir, or --overwrite")
    for path, rows in lists:
        write_list(path, rows)
    return len(pairs), len(images)


def strays(folder: str | Path, kind: str) -> list[str]:
    """Lines on labels, or on names in tags.txt, that no image has, and on labels that are no PNG."""
    root = Path(folder)
    images, pairs = find_pairs(folder, kind)
    stems = {image.stem for image in images}
    if kind == "tag":
        return _told("no image has the name", [f"{name!r} in {root / TAGS}" for name in _tagged(root / TAGS) - stems])
    place = root / pairs[0][-1].parent
    labels = sorted(path for path in place.iterdir() if path.suffix.lower() in IMAGES and path.is_file())
    alone = [str(path) for path in labels if path.suffix == ".png" and path.stem not in stems]
    others = [str(path) for path in labels if path.suffix != ".png" and place != root / images[0].parent]
    return [*_told("no image has the name of", alone), *_told("a label is a file .png, which this is not:", others)]


def _told(what: str, names: list[str]) -> list[str]:
    return [f"{what} {sorted(names)[0]}{f', and {len(names) - 1} more' * (len(names) > 1)}"] if names else []


def _tagged(path: Path) -> set[str]:
    """The names of a file of tags."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: expected a text file of lines `name class class ..`, the name without suffix"
        ) from error
    return {tag_words(line)[0] for line in lines if line.strip()}


def _images(root: Path, folder: Path, labels: list[str]) -> list[Path]:
    """The images straight in a folder, relative to the root, sorted."""
    if not folder.is_dir() or folder.name in labels:
        return []
    found = (path for path in folder.iterdir() if path.suffix.lower() in IMAGES and path.is_file())
    return sorted(path.relative_to(root) for path in found if not path.name.startswith("."))
