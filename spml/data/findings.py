"""Finds likely mistakes in a training list: each has a rule over the counts of a survey.

A rule returns one line, or None. The line names the share or class that gives the mistake away, and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from spml.classes import means_background
from spml.data.samples import UNLABELLED

if TYPE_CHECKING:
    from spml.data.survey import Survey

ALL_LABELLED = 0.95  # share of pixels outside void with a class from which on labels are no scribbles, points or boxes
PAINTED = {True: 0.8, False: 0.97}  # share of class 0 that looks like paint: of labels said to be weak, and of masks
MUCH_VOID = 0.75  # share of pixels; borders and difficult objects of masks are a fifth at most
MANY_PIXELS, MANY_IMAGES = 0.5, 0.8  # shares of a value beyond the classes that stands for unlabelled pixels
MANY_VALUES = 20  # beyond the classes: compression makes them, nobody numbers classes so


class Finding(NamedTuple):
    """A mistake, by a short name for programs and one line for people."""

    code: str
    message: str


def find(survey: Survey) -> tuple[list[Finding], list[Finding]]:
    """Warnings, for likely mistakes, and notes, for other facts worth a line."""
    warnings = [Finding(code, line) for code, rule in RULES.items() if (line := rule(survey)) is not None]
    notes = [Finding(code, line) for code, rule in NOTES.items() if (line := rule(survey)) is not None]
    return warnings, notes


def unlabelled_is_0(survey: Survey) -> str | None:
    share = survey.pixels[0] / max(survey.pixels.sum(), 1)
    if not _is_full(survey) or share <= PAINTED[survey.weak]:
        return None
    return (
        f"{_percent(share)} of the labelled pixels are class 0 ({survey.classes[0]}) and nearly none is unlabelled: "
        "are unlabelled pixels painted 0? Paint them 254, or set dataset.unlabelled_index=0"
    )


def unlabelled_is_void(survey: Survey) -> str | None:
    if not (survey.has_labels and survey.void >= MUCH_VOID):
        return None
    return (
        f"{_percent(survey.void)} of the pixels are void (255), which training leaves out altogether: are unlabelled "
        "pixels painted 255? Paint them 254, or set dataset.unlabelled_index=255"
    )


def full_masks(survey: Survey) -> str | None:
    if not (survey.weak and _is_full(survey)) or unlabelled_is_0(survey):
        return None
    return (
        f"{_percent(_known(survey))} of the pixels outside void have a class: these look like full masks, not weak "
        "labels; is it the right list?"
    )


def nothing_labelled(survey: Survey) -> str | None:
    if not survey.has_labels or survey.pixels.sum():
        return None
    held = ", ".join(map(str, np.flatnonzero(survey.values)[:8]))
    return f"none of the {survey.read} labels that were read has a pixel of a class: they hold {held}"


def one_class(survey: Survey) -> str | None:
    present = np.flatnonzero(survey.pixels).tolist()
    if len(present) != 1 or unlabelled_is_0(survey):
        return None
    return f"all labelled pixels are {_name(survey, present[0])}: nothing is learned from a single class"


def names_shifted(survey: Survey) -> str | None:
    """Labels whose numbers are shifted against the class names.

    Three signs: 0 is unused and K is a class (labels count from 1); 0..K are all used (a name is missing, often that of
    the background); all classes but the last are used (a name too many, often that of a background).
    """
    count, used = survey.num_classes, survey.values > 0
    if not survey.has_labels or count < 3:
        return None
    beyond = _class_like(survey)
    if used[1:count].all() and not used[0] and beyond == [count]:
        return (
            f"labels hold 1 to {count} and no 0, but {count} classes are numbered 0 to {count - 1}: names are shifted "
            f"by one against the labels; add a name for 0 at the top of dataset.classes (number 1 reads as "
            f"{survey.classes[1]!r} now)"
        )
    if used[:count].all() and beyond == [count]:
        return (
            f"labels hold 0 to {count}, one class more than there are names ({count}), so that {count} counts as "
            f"unlabelled: is a name missing at the top of dataset.classes? (0 reads as {survey.classes[0]!r} now)"
        )
    if used[: count - 1].all() and not used[count - 1] and not beyond and survey.read == survey.images:
        return (
            f"every class occurs but the last, {_name(survey, count - 1)}: is there a name too many at the top of "
            f"dataset.classes? (0 reads as {survey.classes[0]!r} now)"
        )
    return None


def values_beyond(survey: Survey) -> str | None:
    odd = _class_like(survey)
    if not odd or names_shifted(survey):
        return None
    held = ", ".join(map(str, odd[:8])) + (", .." if len(odd) > 8 else "")
    if len(odd) > MANY_VALUES:
        return (
            f"labels hold {len(odd)} values beyond the {survey.num_classes} classes ({held}): were these masks once "
            "saved as JPEG, or scaled with smoothing?"
        )
    return f"labels hold {held}, which {survey.num_classes} classes make unlabelled: is dataset.num_classes right?"


def never_occurs(survey: Survey) -> str | None:
    absent = np.flatnonzero(survey.seen == 0).tolist()
    if not survey.has_labels and survey.background in absent:  # which is no tag
        absent.remove(survey.background)
    complete = survey.read == survey.images or not survey.has_labels
    if not absent or len(absent) == survey.num_classes or not complete or names_shifted(survey):
        return None
    names = ", ".join(_name(survey, index) for index in absent[:6]) + (", .." if len(absent) > 6 else "")
    return f"no image has a label of {names}: {len(absent)} of {survey.num_classes} classes never occur"


def no_regions(survey: Survey) -> str | None:
    weight = survey.losses.get("image_similarity", 0)
    if not weight or (survey.regions and max(survey.regions) > 1):
        return None
    lacking = "every image is one region" if survey.regions else "the list has no third column"
    return (
        f"image_similarity (weight {weight:g}) cannot act, {lacking}: make over-segmentations with "
        "`spml oversegment --list_out`, or switch it off (losses.image_similarity: none)"
    )


def no_contrast(survey: Survey) -> str | None:
    """Co-occurrence pushes images without a common tag apart; without such a pair it has no effect."""
    weight = survey.losses.get("semantic_cooccurrence", 0)
    if not weight:
        return None
    start = f"semantic_cooccurrence (weight {weight:g}) cannot act"
    if not survey.tags.any():
        return f"{start}: no image has a tag"
    sets = np.unique(survey.tags, axis=0).astype(np.int64)
    if not (sets @ sets.T > 0).all():  # an empty set is pushed from all
        return None
    if len(sets) == 1:
        return f"{start}: all images have the same tags ({_names(survey, sets[0].tolist())})"
    common = sets.min(0).tolist()
    if any(common):
        return f"{start}: all images share {_names(survey, common)}"
    return f"{start}: any two images share a class"


def duplicates(survey: Survey) -> str | None:
    if not survey.duplicates:
        return None
    first, second = survey.duplicates[0]
    return (
        f"{len(survey.duplicates)} lines stand twice, such as line {second.line} (line {first.line} too): their images "
        "count double"
    )


def ordinary_0(survey: Survey) -> str | None:
    if survey.background != 0 or means_background(survey.classes[0]) or names_shifted(survey):
        return None
    return (
        f"class 0 ({survey.classes[0]}) counts as background, which is no tag and no object: "
        "where it is a class as any other, set dataset.background: none"
    )


def _known(survey: Survey) -> float:
    """Share of the pixels outside void that have a class."""
    return survey.labelled / (1 - survey.void) if survey.void < 1 else 0.0


def _is_full(survey: Survey) -> bool:
    """Whether nearly every pixel has a class or is a mask's border."""
    return survey.has_labels and survey.void < MUCH_VOID and _known(survey) > ALL_LABELLED


def _class_like(survey: Survey) -> list[int]:
    """Values beyond the classes that do not mean "unlabelled".

    254 means "unlabelled". If no label has 254, one other value that most pixels or nearly all images have does, as
    num_classes in the released labels.
    """
    odd = [value for value in range(survey.num_classes, UNLABELLED) if survey.values[value]]
    if len(odd) == 1 and not survey.values[UNLABELLED]:
        pixels, images = survey.values[odd[0]] / survey.values.sum(), survey.holding[odd[0]] / survey.read
        return [] if pixels > MANY_PIXELS or images > MANY_IMAGES else odd
    return odd


def _name(survey: Survey, index: int) -> str:
    return f"{index} ({survey.classes[index]})"


def _names(survey: Survey, chosen: Sequence[int]) -> str:
    names = [name for name, some in zip(survey.classes, chosen, strict=True) if some]
    return ", ".join(names[:6]) + (", .." if len(names) > 6 else "")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


RULES: dict[str, Callable[[Survey], str | None]] = {
    "unlabelled_is_0": unlabelled_is_0,
    "unlabelled_is_void": unlabelled_is_void,
    "full_masks": full_masks,
    "nothing_labelled": nothing_labelled,
    "one_class": one_class,
    "names_shifted": names_shifted,
    "values_beyond": values_beyond,
    "never_occurs": never_occurs,
    "no_regions": no_regions,
    "no_contrast": no_contrast,
    "duplicates": duplicates,
}
NOTES: dict[str, Callable[[Survey], str | None]] = {"ordinary_0": ordinary_0}
