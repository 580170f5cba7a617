"""Pseudo labels by retrieval from a memory (released as pseudo_inference_crf_msc)."""

from dataclasses import dataclass

from spml.data.dataset import EvaluationSample
from spml.errors import UserError
from spml.inference.predictors import RetrievalPredictor, build_predictor, predict_image
from spml.inference.whole_views import WholeViews
from spml.pseudo.base import Evidence, Labeller, Materials, Recipe, Source, classes_of

LEAST_SHARE = 0.15  # a class that is present, but nowhere strong, is not blown up beyond this


@dataclass(frozen=True)
class RetrievalLabeller(Labeller):
    """The share of each class among the nearest prototypes, averaged over the views, at the image's size.

    A class in the image's label is divided by its maximum or 0.15, whichever is larger; other classes do not change.
    """

    predictor: RetrievalPredictor
    views: WholeViews | None  # None: no walk

    def __call__(self, read: EvaluationSample) -> Evidence:
        share, _ = predict_image(read.image, self.predictor)  # (K, h, w)
        present = classes_of(read, len(share)).to(share.device)
        maximum = share.flatten(1).amax(1).clamp(min=LEAST_SHARE).masked_fill(~present, 1)
        return Evidence(
            share / maximum[:, None, None], None if self.views is None else self.views.at_eighth(read.image)
        )


def build(materials: Materials) -> RetrievalLabeller:
    """Build the source with the memory of a folder."""
    config, plan, device = materials.config, materials.plan, materials.device
    if materials.memory_dir is None:
        raise UserError("--source retrieval needs --semantic_memory_dir, a memory written by `spml memory`")
    given = (materials.snapshot, plan, device, materials.memory_dir)
    predictor = build_predictor(config, "retrieval", *given, runtime=materials.runtime)
    assert isinstance(predictor, RetrievalPredictor)
    views = WholeViews(predictor.segmenter.model, plan, device) if materials.walk_steps else None
    return RetrievalLabeller(plan, predictor, views)


SOURCE = Source(
    "the nearest prototypes of a memory, for the classes of the image's label",
    needs=("snapshot", "label", "memory_dir"),
    recipe=Recipe((0.5, 1.0, 1.5, 2.0), True, 0, True),
    build=build,
)
