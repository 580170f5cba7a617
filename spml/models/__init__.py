"""Networks: image to embedding, embedding to classes, and the files that hold their weights."""

from spml.models.cam import CamModel, CamOutput, build_cam_model, load_cam_model
from spml.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from spml.models.classifier import SoftmaxClassifier, build_classifier
from spml.models.embedding import EmbeddingModel, build_embedding_model, split_parameters

__all__ = [
    "CamModel",
    "CamOutput",
    "CheckpointError",
    "EmbeddingModel",
    "SoftmaxClassifier",
    "build_cam_model",
    "build_classifier",
    "build_embedding_model",
    "load_cam_model",
    "load_checkpoint",
    "save_checkpoint",
    "split_parameters",
]
