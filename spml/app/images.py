"""The images of a folder: their names, sizes and pictures, and nothing outside of it."""

import io
import os
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from spml.data.samples import DataError, image_size, read_image
from spml.errors import UserError
from spml.files import write_atomically
from spml.records import hash_json

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LEFT_OUT = ("strokes", "labels", "weak", "lists", "runs")  # folders of the studio's own, at the top
MAX_PIXELS = 100_000_000  # of an image; more is a mistake, or meant to fill the memory
PHOTO_SIDE, THUMB_SIDE = 2048, 160  # longest sides of what a page gets
LOSSLESS = 1_000_000  # PNGs up to so many pixels are sent as PNGs
QUALITY = {PHOTO_SIDE: 90, THUMB_SIDE: 80}  # of JPEGs
FRESH = 2.0  # seconds that a list of the folder is good for


class Missing(UserError):
    """An image that the folder does not have."""


@dataclass(frozen=True)
class Entry:
    """An image of the folder."""

    name: str  # its path inside the folder, with /
    stamp: tuple[int, int]  # time of change and bytes: another stamp, another image
    error: str | None = None  # why it cannot be used

    @property
    def stem(self) -> str:
        """Its name without suffix, which names its files."""
        return os.path.splitext(self.name)[0]


class Images:
    """The images below a folder. Symbolic links to folders are not followed, nor links to files outside.

    Raises:
        UserError: no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        if not self.folder.is_dir():
            raise UserError(f"expected a folder of images, got {str(folder)!r}")
        self.lock = threading.Lock()
        self.entries: dict[str, Entry] = {}
        self._listed = 0.0
        self._sizes: dict[str, tuple[tuple[int, int], tuple[int, int] | str]] = {}  # by name: stamp, and size or error
        self.refresh()

    def refresh(self, fresh: float = FRESH) -> dict[str, Entry]:
        """The images of the folder by name, in their order; listed anew unless that was done just now."""
        with self.lock:
            if not self.entries or time.monotonic() - self._listed > fresh:
                self.entries = _listed(self.folder)
                self._listed = time.monotonic()
            return self.entries

    def known(self, name: str) -> bool:
        """Whether there is such an image."""
        return name in self.entries

    def entry(self, name: str) -> Entry:
        """Raises Missing where the folder has no such image."""
        found = self.entries.get(name)
        if found is None:
            raise Missing(f"no image {name[:100]!r} in the folder")
        return found

    def path(self, name: str) -> Path:
        """The file of an image. Raises Missing, also where the file now is a link out of the folder."""
        path = self.folder / self.entry(name).name
        if not _inside(path, self.folder):
            raise Missing(f"no image {name[:100]!r} in the folder")
        return path

    def size(self, name: str) -> tuple[int, int]:
        """(H, W) of the upright image, from its header. Raises UserError for one that cannot be used."""
        entry = self.entry(name)
        if entry.error is not None:
            raise UserError(entry.error)
        held = self._sizes.get(name)
        if held is None or held[0] != entry.stamp:
            held = self._sizes[name] = entry.stamp, self._read_size(name)
        if isinstance(held[1], str):
            raise UserError(held[1])
        return held[1]

    def error(self, name: str) -> str | None:
        """Why an image cannot be used; None where it can, as far as its header says."""
        try:
            self.size(name)
        except UserError as error:
            return str(error)
        return None

    def _read_size(self, name: str) -> tuple[int, int] | str:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                height, width = image_size(self.path(name))
        except UserError as error:
            return str(error).replace(f"{self.folder}{os.sep}", "")
        if height * width > MAX_PIXELS:
            return f"{name}: {width} x {height} pixels: expected at most {MAX_PIXELS // 1_000_000} million"
        return height, width

    def read(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8, upright. Raises UserError, and remembers that the image cannot be used."""
        self.size(name)
        try:
            return read_image(self.path(name))
        except DataError as error:
            message = str(error).replace(f"{self.folder}{os.sep}", "")
            self._sizes[name] = self.entry(name).stamp, message
            raise UserError(message) from error

    def photo_size(self, name: str) -> tuple[int, int]:
        """(h, w) of the picture that a page draws on."""
        return reduced(self.size(name), PHOTO_SIDE)

    def photo(self, name: str) -> np.ndarray:
        """(h, w, 3) uint8: the image as a page draws on it, and as labels spread over it."""
        return _shrunk(self.read(name), PHOTO_SIDE)

    def picture(self, name: str, side: int, cache: Path) -> tuple[bytes, str]:
        """An image file of an image at most `side` pixels long, and its media type, kept in a folder.

        It is always written anew, so that nothing but pixels goes to the browser.
        """
        entry, (height, width) = self.entry(name), self.size(name)
        lossless = side == PHOTO_SIDE and name.lower().endswith(".png") and height * width <= LOSSLESS
        suffix, kind = (".png", "image/png") if lossless else (".jpg", "image/jpeg")
        path = cache / f"{hash_json([name, entry.stamp, side])}{suffix}"
        if path.is_file():
            return path.read_bytes(), kind
        buffer = io.BytesIO()
        picture = Image.fromarray(_shrunk(self.read(name), side))
        picture.save(buffer, "PNG" if lossless else "JPEG", **({} if lossless else {"quality": QUALITY[side]}))
        content = buffer.getvalue()
        write_atomically(path, lambda file: file.write(content))
        return content, kind


def reduced(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(H, W) with the longest side at most `side`."""
    ratio = min(1.0, side / max(size))
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


def _shrunk(image: np.ndarray, side: int) -> np.ndarray:
    size = reduced((image.shape[0], image.shape[1]), side)
    return image if size == image.shape[:2] else cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def _inside(path: Path, folder: Path) -> bool:
    """Whether a file lies in a folder once all links are followed."""
    try:
        return path.resolve(strict=True).is_relative_to(folder)
    except (OSError, RuntimeError):
        return False


def _listed(folder: Path) -> dict[str, Entry]:
    """All images, by the parts of their names; of two that differ in the suffix alone the second is an error."""
    found: dict[str, Entry] = {}
    stems: dict[str, str] = {}
    for name, stamp in sorted(_walk(folder, ""), key=lambda one: one[0].split("/")):
        entry = Entry(name, stamp)
        first = stems.setdefault(entry.stem, name)
        if first != name:
            entry = Entry(name, stamp, f"{name}: {first} has the same name but for the suffix: rename one of them")
        found[name] = entry
    return found


def _walk(folder: Path, prefix: str) -> list[tuple[str, tuple[int, int]]]:
    found = []
    try:
        children = list(os.scandir(folder))
    except OSError:  # a folder that may not be read has no images for us
        return []
    for child in children:
        name = f"{prefix}{child.name}"
        if child.name.startswith(".") or not name.isprintable():
            continue
        try:
            if child.is_dir(follow_symlinks=False):
                if prefix or child.name not in LEFT_OUT:
                    found += _walk(Path(child.path), f"{name}/")
            elif child.name.lower().endswith(SUFFIXES) and child.is_file():
                if child.is_symlink() and not _inside(Path(child.path), folder_root(folder, prefix)):
                    continue
                stat = child.stat()
                found.append((name, (stat.st_mtime_ns, stat.st_size)))
        except OSError:
            continue
    return found


def folder_root(folder: Path, prefix: str) -> Path:
    """The folder that `prefix` starts from, for a folder inside it."""
    for _ in range(prefix.count("/")):
        folder = folder.parent
    return folder
