"""How good predictions are: IoU over a data set, IoU by instances, and both over folders of label files."""

from spml.evaluation.folders import Evaluation, evaluate_folder
from spml.evaluation.iou import ConfusionMatrix, InstanceIoU
from spml.evaluation.verdict import Verdict, verdict

__all__ = ["ConfusionMatrix", "Evaluation", "InstanceIoU", "Verdict", "evaluate_folder", "verdict"]
