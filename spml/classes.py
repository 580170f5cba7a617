"""Class names: those of a file, and those of the data sets that the paper evaluates on."""

from pathlib import Path

from spml.errors import UserError

VOC_CLASSES = tuple(
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor".split()
)
DENSEPOSE_CLASSES = tuple(
    "background torso right_hand left_hand left_foot right_foot right_upper_leg left_upper_leg right_lower_leg "
    "left_lower_leg left_upper_arm right_upper_arm left_lower_arm right_lower_arm head".split()
)
KNOWN_CLASSES = {"VOC2012": VOC_CLASSES, "Densepose": DENSEPOSE_CLASSES}  # by `dataset.dataset`
IGNORE = 255  # in a label: void and padding, which leave clustering altogether
UNLABELLED = 254  # what our tools write for a pixel without annotation; any other value >= num_classes reads the same
MAX_CLASSES = UNLABELLED
GROUND = ("background", "bg", "back", "void", "other", "others", "rest", "none", "unlabelled", "unlabeled", "class 0")


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """The names in a text file, one a line, the class of label 0 first; empty lines at the end do not count.

    Raises:
        UserError: an unreadable file, fewer than 2 or more than 254 names, a name that stands twice, or an empty line
            between names.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"expected a text file of class names, got {str(path)!r} ({reason})") from error
    text = "\n".join(lines).rstrip()
    names = tuple(name.strip() for name in text.split("\n")) if text else ()
    if "" in names:
        place = names.index("")
        raise UserError(f"{path} line {place + 1}: expected the name of class {place}, got nothing")
    if not 2 <= len(names) <= MAX_CLASSES or len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        got = f"{len(names)} names" + (f", {twice[0]!r} twice" if twice else "")
        raise UserError(f"expected 2..{MAX_CLASSES} different class names in {path}, one a line, got {got}")
    return names


def means_background(name: str) -> bool:
    """Whether the name of a class says that it is no object."""
    return name.lower() in GROUND


def class_names(
    num_classes: int | None = None, path: str | Path | None = None, dataset: str | None = None
) -> tuple[str, ...]:
    """Names of all classes, from label 0 on: from a file or a known data set, else "class 0", "class 1", ..

    Args:
        num_classes: their number, 2..254; None: the number of names, or 21 without names.
        path: a text file with one name a line.
        dataset: VOC2012 or Densepose for their names, if `num_classes` fits; other data sets have no names here.

    Raises:
        UserError: see `read_class_names`; a file with another number of names, or a number out of range.
    """
    if path is not None:
        names = read_class_names(path)
        if num_classes not in (None, len(names)):
            raise UserError(f"{path}: expected {num_classes} class names, one a line, got {len(names)}")
        return names
    known = KNOWN_CLASSES.get(dataset or "", ())
    if known and num_classes in (None, len(known)):
        return known
    num_classes = 21 if num_classes is None else num_classes
    if not 2 <= num_classes <= MAX_CLASSES:
        raise UserError(f"--num_classes: expected 2 to {MAX_CLASSES} classes, got {num_classes}")
    return tuple(f"class {index}" for index in range(num_classes))
