"""Class names: from a file, or those of the data sets that the paper evaluates on."""

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
MAX_CLASSES = 254  # 254 and 255 mark unlabelled and ignored pixels


def class_names(num_classes: int | None = None, path: str | Path | None = None) -> tuple[str, ...]:
    """Names of all classes, the background first.

    Args:
        num_classes: how many there are, 2..254; None = as many as the file names, or the 21 of VOC without a file.
        path: a text file with one name a line; without one, 21 classes are VOC's, 15 are DensePose's, and others are
            called by their number.

    Raises:
        UserError: an unreadable or empty file, one with another number of names, or a number out of range.
    """
    if path is None:
        num_classes = len(VOC_CLASSES) if num_classes is None else num_classes
        for names in (VOC_CLASSES, DENSEPOSE_CLASSES):
            if num_classes == len(names):
                return names
        return _checked(tuple(f"class {index}" for index in range(num_classes)), "--num_classes")
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the class names in {path}: {error}") from error
    names = _checked(tuple(line.strip() for line in lines if line.strip()), str(path))
    if num_classes not in (None, len(names)):
        raise UserError(f"{path}: expected {num_classes} class names, one a line, got {len(names)}")
    return names


def _checked(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    if not 2 <= len(names) <= MAX_CLASSES:
        raise UserError(f"{where}: expected 2 to {MAX_CLASSES} classes, got {len(names)}")
    return names
