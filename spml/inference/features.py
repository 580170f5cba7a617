"""Frozen features of images, computed once: in memory by the image's content, on disk beside a record."""

import io
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spml import records
from spml.errors import UserError
from spml.files import write_atomically
from spml.propagate.spread import Field, neighbour_hold

LONG_SIDE = 480  # pixels of the image that the network sees; objects of photographs then have the size it learned
STRIDE = 4  # pixels of that image to a cell
MULTIPLE = 32  # sides of that image, so that the cells of all levels lie on each other
LEVEL_WEIGHTS = (0.5, 0.5, 1.0, 2.0, 1.0)  # lengths of the features of five levels, finest first
POSITION, WHOLE = 0.3, 1.0  # lengths of the position, from -1 to 1, and of what the whole image shows
MEMORY_BYTES = 1 << 30  # of features held; beyond it the longest unused go
KIND = "features"


@dataclass(frozen=True)
class Extractor:
    """Makes the `Field` of an image with a frozen network.

    Args:
        network: image (1, 3, h, w) to maps; in eval mode, on `device`.
        mean, std: of RGB in 0..1, as the network expects it.
        device: where it computes.
        long_side: of the image that the network sees.
    """

    network: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device
    long_side: int = LONG_SIDE

    def view_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of what the network sees of an image of (H, W): multiples of 32, the longest about `long_side`."""
        ratio = self.long_side / max(size)
        height, width = (max(1, round(ratio * side / MULTIPLE)) * MULTIPLE for side in size)
        return height, width

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Field:
        """The features of (H, W, 3) uint8, in half precision on the device."""
        height, width = self.view_size((image.shape[0], image.shape[1]))
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1)[None].float() / 255
        shrinks = height < image.shape[0]
        view = F.interpolate(pixels, (height, width), mode="bilinear", align_corners=False, antialias=shrinks)
        mean, std = (torch.tensor(value, device=self.device)[:, None, None] for value in (self.mean, self.std))
        maps = [level[0].float() for level in self.network((view - mean) / std)]
        grid = height // STRIDE, width // STRIDE
        weights = LEVEL_WEIGHTS if len(maps) == len(LEVEL_WEIGHTS) else (1.0,) * len(maps)
        levels = [weight * _on(F.normalize(level, dim=0), grid) for level, weight in zip(maps, weights, strict=True)]
        levels.append(POSITION * _position(grid, self.device))
        whole = WHOLE * F.normalize(maps[-1].mean((1, 2)), dim=0)
        joined = torch.cat([_resized(level, grid) for level in levels[:-1]])
        hold = neighbour_hold(joined, F.adaptive_avg_pool2d(view[0], grid))
        return Field(tuple(level.half() for level in levels), whole.half(), hold.half())


def _on(level: Tensor, grid: tuple[int, int]) -> Tensor:
    """A level finer than the grid, averaged down to it; others as they are."""
    return _resized(level, grid) if level.shape[1] > grid[0] else level


def _resized(level: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(level.shape[1:]) == size:
        return level
    return F.interpolate(level[None], size, mode="bilinear", align_corners=False)[0]


def _position(grid: tuple[int, int], device: torch.device) -> Tensor:
    """(2, h, w): y and x from -1 to 1."""
    y, x = (torch.linspace(-1, 1, side, device=device) for side in grid)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))


class FeatureCache:
    """Features of images, each computed once. Threads may share it: one reads while another computes.

    Args:
        extract: makes them.
        folder: where they are kept as well; None: in memory alone.

    Raises:
        UserError: a folder with the features of another network.
    """

    def __init__(self, extract: Extractor, folder: str | Path | None = None) -> None:
        self.extract, self.folder = extract, None if folder is None else Path(folder)
        self.held: OrderedDict[str, Field] = OrderedDict()
        self.bytes = 0
        self._lock = threading.Lock()  # of what is held, and never while features are computed
        self._working: dict[str, threading.Lock] = {}  # of what is being computed
        if self.folder is not None:
            settings = {"levels": LEVEL_WEIGHTS, "position": POSITION, "whole": WHOLE, "stride": STRIDE}
            records.start(
                self.folder, records.record_of(KIND, {"extractor": extract, **settings}), made=("*.features",)
            )

    def __call__(self, image: np.ndarray) -> tuple[str, Field]:
        """The key of an image (H, W, 3) uint8, a hash of its pixels, and its features."""
        key = records.hash_array(image)
        with self._lock:
            if key in self.held:
                self.held.move_to_end(key)
                return key, self.held[key]
            working = self._working.setdefault(key, threading.Lock())
        with working:  # another thread that asks for the same waits for it
            return key, self._found(key, image)

    def _found(self, key: str, image: np.ndarray) -> Field:
        """Read or computed, and held from now on."""
        with self._lock:
            if key in self.held:
                return self.held[key]
        path = None if self.folder is None else self.folder / f"{key}.features"
        field = None if path is None else _read(path, self.extract.device)
        if field is None:
            field = self.extract(image)
            if path is not None:
                _write(path, field)
        with self._lock:
            self._working.pop(key, None)
            self.held[key] = field
            self.bytes += _bytes(field)
            while self.bytes > MEMORY_BYTES and len(self.held) > 1:
                self.bytes -= _bytes(self.held.popitem(last=False)[1])
        return field


def _bytes(field: Field) -> int:
    return sum(part.nbytes for part in (*field.levels, field.whole, field.hold))


def _write(path: Path, field: Field) -> None:
    content = {
        "levels": [level.cpu().contiguous() for level in field.levels],
        "whole": field.whole.cpu(),
        "hold": field.hold.cpu(),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, lambda file: file.write(buffer.getvalue()))


def _read(path: Path, device: torch.device) -> Field | None:
    """None where there is no file. Raises UserError for a damaged one."""
    if not path.is_file():
        return None
    try:
        content: Mapping[str, Any] = torch.load(path, map_location=device, weights_only=True)
        return Field(tuple(content["levels"]), content["whole"], content["hold"])
    except Exception as error:  # torch.load has no one error for a damaged file
        raise UserError(f"cannot read the features in {path}: remove the file, they are made again") from error
