"""Networks that map images to embeddings and embeddings to classes, and the files of their weights."""

from spml.models.cam import CamModel, CamOutput, build_cam_model, load_cam_model
from spml.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from spml.models.classifier import SoftmaxClassifier, build_classifier
from spml.models.embedding import EmbeddingModel, build_backbone, build_embedding_model, split_parameters
from spml.models.pretrained import PACKAGES, load_pretrained, normalisation, pretrained_encoder, weights_file
from spml.models.registry import BACKBONES, HEADS, Backbone, Encoder, Head, find_backbone, find_head

__all__ = [
    "BACKBONES",
    "HEADS",
    "PACKAGES",
    "Backbone",
    "CamModel",
    "CamOutput",
    "CheckpointError",
    "EmbeddingModel",
    "Encoder",
    "Head",
    "SoftmaxClassifier",
    "build_backbone",
    "build_cam_model",
    "build_classifier",
    "build_embedding_model",
    "find_backbone",
    "find_head",
    "load_cam_model",
    "load_checkpoint",
    "load_pretrained",
    "normalisation",
    "pretrained_encoder",
    "save_checkpoint",
    "split_parameters",
    "weights_file",
]
