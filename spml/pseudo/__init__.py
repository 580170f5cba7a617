"""Pseudo labels for training images: what a source knows, spread by a random walk, refined by a CRF.

| source    | as released in             | starts from                            | scales     | flip | walk | CRF |
|-----------|----------------------------|----------------------------------------|------------|------|------|-----|
| cam       | pseudo_camrw_crf           | CAMs and (1 - max)^6                   | 1          | yes  | yes  | yes |
| softmax   | pseudo_softmaxrw_crf       | classifier, probabilities averaged     | 1          | yes  | yes  | yes |
| softmax   | pseudo_softmax             | classifier, logits averaged            | .75 1      | yes  | 1    | no  |
| retrieval | pseudo_inference_crf_msc   | shares among test.neighbours (20)      | .5 1 1.5 2 | yes  | no   | yes |
| points    | pseudo_denseposerw_crf     | nearest labelled segments              | 1          | no   | yes  | yes |
| spread    | (ours)                     | weak labels, by frozen features        | 1          | no   | own  | no  |

A source is a file of this folder and a line of SOURCES. Where the release sends whole padded images through the
network, so do the sources; retrieval slides crops.
"""

from spml.pseudo import cam, points, retrieval, softmax, spread
from spml.pseudo.base import Source

SOURCES: dict[str, Source] = {
    "cam": cam.SOURCE,
    "softmax": softmax.SOURCE,
    "retrieval": retrieval.SOURCE,
    "points": points.SOURCE,
    "spread": spread.SOURCE,
}
