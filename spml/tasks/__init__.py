"""What can be trained, by name: `train.task` of a config is one of these."""

from spml.tasks.base import Task
from spml.tasks.cam import CamTask
from spml.tasks.classifier import ClassifierTask
from spml.tasks.seam import SeamTask
from spml.tasks.segmentation import SegmentationTask
from spml.tasks.spml import SpmlTask

TABLE: dict[str, type[Task]] = {
    task.name: task for task in (SpmlTask, SegmentationTask, ClassifierTask, CamTask, SeamTask)
}

__all__ = ["TABLE", "Task"]
