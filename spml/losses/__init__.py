"""The losses, one file each, and their table. The section `losses:` of a config says which of them are on."""

from spml.losses.base import Inputs, Loss
from spml.tables import Table

TABLE: Table[Loss] = Table(
    "spml.losses",
    {
        "cross_entropy": "cross_entropy:LOSS",
        "semantic_annotation": "relations:SEMANTIC_ANNOTATION",
        "semantic_cooccurrence": "relations:SEMANTIC_COOCCURRENCE",
        "image_similarity": "relations:IMAGE_SIMILARITY",
        "feature_affinity": "relations:FEATURE_AFFINITY",
        "propagated_cross_entropy": "propagated:LOSS",
        "entropy": "entropy:LOSS",
        "neighbour": "neighbour:LOSS",
        "gated_crf": "gated_crf:LOSS",
        "dense_crf": "dense_crf:LOSS",
        "normalised_cut": "cuts:NORMALISED_CUT",
        "kernel_cut": "cuts:KERNEL_CUT",
        "tree_energy": "tree_energy:LOSS",
        "gaussian_mixture": "gaussian_mixture:LOSS",
    },
)

__all__ = ["TABLE", "Inputs", "Loss"]
