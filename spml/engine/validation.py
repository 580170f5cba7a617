"""The classifier's mean IoU on the test list during training."""

from typing import Any

import numpy as np
import torch

from spml.data.dataset import read_sample
from spml.data.lists import check_samples, read_list
from spml.engine import distributed
from spml.engine.loop import Record
from spml.errors import UserError
from spml.evaluation import ConfusionMatrix
from spml.inference.predictors import SoftmaxPredictor, predict_image
from spml.inference.views import ViewPlan, resize_label
from spml.tasks import Task


class Validation:
    """A callback that returns `validation_mean_iou` in 0..1, each `train.validation_step` steps and after the last.

    It uses the predictor `softmax` with the views of the section `test`, without a CRF. Each process takes its share of
    the list.
    """

    def __init__(self, config: Any, task: Task) -> None:
        """Raises UserError for a task without a classifier, or a test list without masks."""
        if not {"embedding_model", "prediction_model"} <= task.parts.keys():
            raise UserError(f"train.validation_step: the task {task.name} has no classifier, expected 0")
        data = config.dataset
        self.config = config
        self.samples = read_list(data.test_data_list, data.data_dir, columns=2)
        if distributed.rank() == 0:
            check_samples(self.samples, data.num_classes, unlabelled_index=data.unlabelled_index)

    def __call__(self, step: int, losses: Record, task: Task) -> dict[str, float] | None:
        """The mean IoU after this step, if it is due; the same on all processes."""
        train = self.config.train
        if (step + 1) % train.validation_step and step + 1 != train.max_iteration:
            return None
        mode = task.training
        task.eval()
        matrix = self._predict(task)
        task.train(mode)
        device = next(task.parameters()).device
        matrix.counts = distributed.exchange().total(torch.from_numpy(matrix.counts).to(device)).cpu().numpy()
        return {"validation_mean_iou": matrix.mean_iou()}

    @torch.no_grad()
    def _predict(self, task: Task) -> ConfusionMatrix:
        config, device = self.config, next(task.parameters()).device
        matrix = ConfusionMatrix(config.dataset.num_classes)
        parts = task.parts
        predictor = SoftmaxPredictor(
            parts["embedding_model"], parts["prediction_model"], ViewPlan.from_config(config), device
        )
        statistics = config.network.pixel_means, config.network.pixel_stds, config.dataset.unlabelled_index
        for sample in self.samples[distributed.rank() :: distributed.world_size()]:
            read = read_sample(sample, *statistics)
            assert read.semantic is not None
            probability, _ = predict_image(read.image, predictor)
            label = probability.argmax(0).cpu().numpy().astype(np.uint8)
            matrix.update(resize_label(label, read.pixels.shape[:2]), read.semantic)
        return matrix
