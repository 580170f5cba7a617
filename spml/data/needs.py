"""What a task needs of the training data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """Columns of the list, tags, and the recipe of augmentation; the defaults are those of the release's stage 1.

    Args:
        columns: how many columns each line of the list must have: 1 image, 2 semantic label.
        tags: the task learns from tags, which come from `dataset.tags` if it is set, else from the semantic labels.
        instance: the task uses the over-segmentation, if the list has a third column.
        scale: range of the random factor that resizes an image.
        grey, blur: probabilities.
    """

    columns: int = 2
    tags: bool = False
    instance: bool = False
    scale: tuple[float, float] = (0.5, 1.5)
    grey: float = 0.0
    blur: float = 0.0
