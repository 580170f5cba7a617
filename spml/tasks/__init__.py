"""The table of tasks: `train.task` of a config names one of these."""

from spml.tables import Table
from spml.tasks.base import Task

TABLE: Table[type[Task]] = Table(
    "spml.tasks",
    {
        "spml": "spml:SpmlTask",
        "segmentation": "segmentation:SegmentationTask",
        "classifier": "classifier:ClassifierTask",
        "cam": "cam:CamTask",
        "seam": "seam:SeamTask",
        "ppc": "ppc:PpcTask",
    },
)

__all__ = ["TABLE", "Task"]
