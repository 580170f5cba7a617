"""What a task asks of the training data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """Columns of the list, tags, and the recipe of augmentation; the defaults are those of the release's stage 1.

    Args:
        columns: how many columns each line of the list must have: 1 image, 2 semantic label.
        tags: the task learns from tags: those of `dataset.tags` where it is set, else of the semantic labels.
        instance: the task uses the over-segmentation, so it is read where the list has a third column.
        scale: range of the factor that an image is resized by.
        grey, blur: probabilities.
    """

    columns: int = 2
    tags: bool = False
    instance: bool = False
    scale: tuple[float, float] = (0.5, 1.5)
    grey: float = 0.0
    blur: float = 0.0
