"""Groups pixels into segments, relates pixels to segments, and computes a loss from each relation."""

from spml.grouping.contrast import Relation, pixel_to_segment_loss
from spml.grouping.memory import MemoryBank, Prototypes
from spml.grouping.relations import RELATIONS, grouping_losses
from spml.grouping.segments import Segments, segment_by_kmeans

__all__ = [
    "RELATIONS",
    "MemoryBank",
    "Prototypes",
    "Relation",
    "Segments",
    "grouping_losses",
    "pixel_to_segment_loss",
    "segment_by_kmeans",
]
