"""What colours alone can tell on the built-in data set: the figure that any method must pass there."""

from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter

from spml.data.lists import read_list
from spml.data.samples import read_sample_files
from spml.data.scenes import CLASSES
from spml.evaluation.iou import ConfusionMatrix
from spml.progress import progress


def colour_baseline(data_dir: str | Path, *, window: int = 9, num_samples: int = 12000, seed: int = 0) -> float:
    """The mIoU on `val.txt`, in 0..1, of what colours alone can tell from the *full* masks of `train_mask.txt`.

    A pixel is described by the colour histogram (4 x 4 x 4 bins of RGB) of the window around it and takes the class of
    the nearest of `num_samples` training pixels in Hellinger distance; every fourth row and column is scored.
    """
    data_dir = Path(data_dir)
    bank, bank_label = [], []
    samples = read_list(data_dir / "train_mask.txt", data_dir, columns=2)
    rng = np.random.default_rng(seed)
    for sample in samples:
        image, mask, _ = read_sample_files(sample)
        assert mask is not None  # two columns were asked for
        chosen = rng.choice(mask.size, -(-num_samples // len(samples)), replace=False)
        bank.append(_colour_histogram(image, window)[chosen])
        bank_label.append(mask.ravel()[chosen])
    histogram, label = np.concatenate(bank), np.concatenate(bank_label)
    matrix = ConfusionMatrix(len(CLASSES))
    for sample in progress(read_list(data_dir / "val.txt", data_dir, columns=2), "colour baseline"):
        image, mask, _ = read_sample_files(sample)
        assert mask is not None  # two columns were asked for
        query = _colour_histogram(image, window).reshape(*mask.shape, -1)[2::4, 2::4]
        nearest = (query.reshape(-1, query.shape[-1]) @ histogram.T).argmax(1)
        matrix.update(label[nearest], mask[2::4, 2::4].ravel())
    return matrix.mean_iou()


def _colour_histogram(image: np.ndarray, window: int) -> np.ndarray:
    """Square roots of the share of each of 64 colours around every pixel, (H * W, 64) float32, rows of unit length."""
    colour = (image // 64) @ np.array([16, 4, 1])  # (H, W) in 0..63
    share = [uniform_filter((colour == value).astype(np.float32), window, mode="nearest") for value in range(64)]
    return np.sqrt(np.maximum(np.stack(share, axis=-1), 0)).reshape(-1, 64)
