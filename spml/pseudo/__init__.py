"""Pseudo labels for training images: a source gives scores, a random walk propagates them, a CRF refines them.

| source    | as released in             | starts from                            | scales     | flip | walk | CRF |
|-----------|----------------------------|----------------------------------------|------------|------|------|-----|
| cam       | pseudo_camrw_crf           | CAMs and (1 - max)^6                   | 1          | yes  | yes  | yes |
| softmax   | pseudo_softmaxrw_crf       | classifier, probabilities averaged     | 1          | yes  | yes  | yes |
| softmax   | pseudo_softmax             | classifier, logits averaged            | .75 1      | yes  | 1    | no  |
| retrieval | pseudo_inference_crf_msc   | shares among test.neighbours (20)      | .5 1 1.5 2 | yes  | no   | yes |
| points    | pseudo_denseposerw_crf     | nearest labelled segments              | 1          | no   | yes  | yes |
| spread    | (ours)                     | weak labels, by frozen features        | 1          | no   | own  | no  |
| affinity  | (AffinityNet)              | CAMs and (1 - max)^16                  | 1          | no   | own  | no  |
| irn       | (IRN)                      | CAMs x (1 - edge)                      | 1          | yes  | own  | no  |

A source is a file of this folder and a line of SOURCES. As in the release, retrieval slides crops, and the other
sources pass whole padded images through the network.
"""

from spml.pseudo.base import Source
from spml.tables import Table

SOURCES: Table[Source] = Table(
    "spml.pseudo",
    {
        "cam": "cam:SOURCE",
        "softmax": "softmax:SOURCE",
        "retrieval": "retrieval:SOURCE",
        "points": "points:SOURCE",
        "spread": "spread:SOURCE",
        "affinity": "affinity:SOURCE",
        "irn": "irn:SOURCE",
    },
)

__all__ = ["SOURCES", "Source"]
