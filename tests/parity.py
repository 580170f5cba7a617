"""The numbers that the release computes, in float32 on the CPU: `tests/data/parity`, one file a topic.

models            `image` (2, 3, 65, 97) -> `<model>.embedding`: channels 0, 4, 8, .. at stride 4, in eval mode, of
                  deeplab_101, deeplab_50, pspnet_101 (D = 64, 21 classes) and pspnet_101_densepose (D = 32, 15 classes;
                  also `.local_feature`); `classifier.embedding` -> `classifier.logit`
models_full_size  `<model>.embedding_full`: channels 0, 32, .. resized to the image
grouping          `seg.*`: k-means 4 x 4, 10 iterations, the segments; `loss.*`, `grad.*`: the three weighted terms on
                  them; `feat_aff.set_label.<threshold>`: label of the nearest labelled segment, as a set
contrast          `nca.*`: the loss alone; `memory_prototype*`, `loss_memory.*`, `grad_memory.*`: with a bank of 2 steps
propagate         `rw.*`: random walk of power 20, six squarings; `nn.*`: 20 neighbours and their majority
schedule          `lr.*`: learning rates

`keys.json.gz` holds the names and shapes of the networks' state dicts. Weights are `seeded_array(key, shape, salt=1)`
for every key but `lfn.smooth_kernel.weight`, which is in the file.
"""

import gzip
import json
import zlib
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "data" / "parity"


def numbers(*topics: str) -> dict[str, torch.Tensor]:
    """The numbers of some topics, by name."""
    found = {}
    for topic in topics:
        with np.load(FOLDER / f"{topic}.npz") as file:
            found |= {key: torch.from_numpy(file[key]) for key in file.files}
    return found


def state_keys() -> dict[str, dict[str, list[int]]]:
    """Network to the shape of each entry of its state dict."""
    return json.loads(gzip.decompress((FOLDER / "keys.json.gz").read_bytes()))


def seeded_array(key: str, shape: tuple[int, ...], salt: int) -> np.ndarray:
    """The entry of a state dict that its name stands for: the same numbers on every machine."""
    rng = np.random.default_rng([zlib.crc32(key.encode()), salt])
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if key.endswith("running_mean"):
        return rng.normal(0, 0.1, shape).astype(np.float32)
    if len(shape) >= 2:  # a convolution; the last of a residual block is kept small, so that sums do not grow
        gain = 0.3 if key.endswith("conv3.weight") else 1.0
        return rng.normal(0, gain * np.sqrt(2.0 / np.prod(shape[1:])), shape).astype(np.float32)
    if key.endswith("bias"):
        return rng.normal(0, 0.05, shape).astype(np.float32)
    return rng.uniform(0.8, 1.2, shape).astype(np.float32)  # scale of a batch norm
