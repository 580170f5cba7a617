"""An embedding network and a classifier under any losses of the table that need no segments.

With cross-entropy alone it is partial cross-entropy, the baseline of every weak annotation.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from spml import losses
from spml.errors import UserError
from spml.grouping.memory import Exchange
from spml.models import build_classifier, build_embedding_model, load_pretrained
from spml.models.classifier import SoftmaxClassifier
from spml.models.embedding import EmbeddingModel
from spml.models.heads.pyramid_pooling import PyramidPooling
from spml.tasks.base import Task, batch_too_small, photo
from spml.visualize import embedding_to_rgb, overlay

DROPOUT = 0.75  # of the classifier beside the embedding, as released


class SegmentationTask(Task):
    """Image to embedding to classes; the gradient of every loss reaches both networks."""

    name = "segmentation"
    help = "embedding network and classifier under any losses that need no segments, such as partial cross-entropy"
    gives: ClassVar[frozenset[str]] = frozenset(
        ("logit", "embedding", "label", "rgb", "valid", "inside", "tag", "background", "exchange")
    )
    reaches_embedding = True  # the gradient of what reads the logits

    def __init__(
        self,
        config: Any,
        embedding_model: EmbeddingModel,
        classifier: SoftmaxClassifier,
        chosen: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """`chosen`: the settings of each loss by its name, those of the config if None.

        Raises:
            UserError: a loss that needs what this task does not give, or no loss at all.
        """
        chosen = config.losses if chosen is None else chosen
        super().__init__(config, {name: settings["weight"] for name, settings in chosen.items()})
        self.embedding_model: EmbeddingModel = embedding_model
        self.classifier: SoftmaxClassifier = classifier
        self.loss_settings = {name: losses.TABLE[name].settings(**settings) for name, settings in chosen.items()}
        self._check_losses()
        for part in self.parts.values():
            part.requires_grad_(any(part is one for one in self.trained))

    @classmethod
    def from_config(cls, config: Any) -> "SegmentationTask":
        """Build both networks; `network.pretrained` fills the embedding, or its backbone alone."""
        pretrained = config.network.pretrained
        # Batch norms of released backbones hardly move their statistics; from random weights they must learn them.
        model = build_embedding_model(config, None if pretrained else 0.1)
        loaded = load_pretrained(pretrained, model)
        return cls(config, model, build_classifier(config, DROPOUT)).started(loaded)

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {"embedding_model": self.embedding_model, "prediction_model": self.classifier}

    @property
    def reads(self) -> set[str]:
        """The inputs that the config's losses read."""
        return {name for loss in self.loss_settings for name in losses.TABLE[loss].inputs}

    @property
    def trained(self) -> list[nn.Module]:
        """The embedding network if the gradient of a loss reaches it, and the classifier if a loss reads its logits."""
        reads = self.reads
        moved = "embedding" in reads or ("logit" in reads and self.reaches_embedding)
        return [*([self.embedding_model] if moved else []), *([self.classifier] if "logit" in reads else [])]

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        return self.terms(StepInputs(self, batch))

    def terms(self, inputs: Any) -> dict[str, Tensor]:
        """The values of the config's losses for `inputs` (`spml.losses.base.Inputs`), by name, in their order."""
        return {name: losses.TABLE[name].function(inputs, settings) for name, settings in self.loss_settings.items()}

    def embed(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D, h, w) raw, in the type that the network computes in."""
        with self.autocast(image.device):
            return self.embedding_model(image)

    def classify(self, embedding: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, K, h, w) raw scores, in the type that the network computes in."""
        with self.autocast(embedding.device):
            return self.classifier(embedding if self.reaches_embedding else embedding.detach())

    def check_batch(self, images: int) -> None:
        pooled = any(isinstance(module, PyramidPooling) for module in self.embedding_model.modules())
        stride = max(self.embedding_model.backbone.strides)
        if images == 1 and (pooled or max(self.config.train.crop_size) <= stride):  # one cell of pooling, or of the map
            raise batch_too_small(self.config)

    @torch.no_grad()
    def pictures(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The annotation and the classifier's labels over the image, and the embedding as colours."""
        image = batch["image"][:1]
        embedding = self.embedding_model(image, image.shape[-2:])
        embedding = torch.where(torch.isfinite(embedding), embedding, 0)  # the loss says that a run diverged
        prediction = self.classifier(embedding).argmax(dim=1)[0].cpu().numpy()
        pixels, background = photo(self.config, batch), self.config.dataset.background
        return {
            "annotation": overlay(pixels, _labels(batch["semantic_label"][0]), background=background),
            "embedding": embedding_to_rgb(embedding[0].float().cpu()),
            "classifier": overlay(pixels, prediction, background=background),
        }

    def _check_losses(self) -> None:
        if not self.loss_settings:
            raise UserError(f"losses: expected at least one for the task {self.name}, got none")
        for loss in self.loss_settings:
            lacking = sorted({*losses.TABLE[loss].inputs} - self.gives)
            if lacking:
                raise UserError(
                    f"losses.{loss}: needs {', '.join(lacking)}, expected a task that gives them, "
                    f"got train.task {self.name}"
                )


def _labels(label: Tensor) -> np.ndarray:
    """(H, W) int64 -> uint8 for pictures."""
    return label.cpu().numpy().astype(np.uint8)


class StepInputs:
    """The inputs of losses (`spml.losses.base.Inputs`), each computed when a loss first reads it."""

    def __init__(self, task: SegmentationTask, batch: Mapping[str, Any]) -> None:
        self.task, self.batch = task, batch

    @cached_property
    def network_embedding(self) -> Tensor:
        """(B, D, h, w) in the type that the network computed in."""
        return self.task.embed(self.batch["image"])

    @cached_property
    def embedding(self) -> Tensor:
        """(B, D, h, w) float32, raw."""
        return self.network_embedding.float()

    @cached_property
    def logit(self) -> Tensor:
        """(B, K, h, w) float32, raw."""
        return self.task.classify(self.network_embedding).float()

    @property
    def label(self) -> Tensor:
        """(B, H, W) int64: a class below K; 255 is void or padding; any other value is unlabelled."""
        return self.batch["semantic_label"]

    @property
    def inside(self) -> Tensor:
        """(B, H, W) bool: pixels of the image, void ones too; false where padded."""
        return self.batch["inside"]

    @cached_property
    def valid(self) -> Tensor:
        """(B, H, W) bool: pixels of the image that are not void."""
        return self.inside & (self.label != 255)

    @cached_property
    def rgb(self) -> Tensor:
        """(B, 3, H, W) float32 in 0..255, 0 where padded."""
        image, network = self.batch["image"], self.task.config.network
        mean, deviation = (image.new_tensor(v)[:, None, None] for v in (network.pixel_means, network.pixel_stds))
        return (255 * (image * deviation + mean)).clamp(0, 255) * self.inside[:, None]

    @property
    def tag(self) -> Tensor:
        """(B, K) bool: the classes that the whole image has."""
        return self.batch["semantic_tag"].bool()

    @property
    def background(self) -> int | None:
        """The class that is no object; None where every class is one."""
        return self.task.config.dataset.background

    @property
    def exchange(self) -> Exchange:
        """The other processes."""
        return self.task.exchange
