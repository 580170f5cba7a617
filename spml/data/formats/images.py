"""Finds the photographs that annotations are about: in the folder that gets the annotations, then beside the source."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from spml.data.samples import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
OUTPUTS = ("strokes", "labels", "weak", "lists", "runs")  # of a folder: what is made, no photographs
BESIDE = ("images", "JPEGImages", "leftImg8bit", "data")  # where formats keep photographs
MASKS = ("SegmentationClass", "SegmentationClassPNG", "SegmentationObject", "gtFine", "gtCoarse", "panoptic")  # beside
MOST_FILES = 500_000


class Images:
    """The photographs of a folder, and of the folders around a source.

    Args:
        folder: what lies in it is used where it lies, but for OUTPUTS and hidden folders.
        roots: searched after it, with all folders in them.
        near: looked into after them, as they are. No photograph outside of these folders is ever opened.
    """

    def __init__(self, folder: Path, roots: Sequence[Path], near: Sequence[Path] = ()) -> None:
        self.folder = folder
        self.roots = [root for root in roots if root.is_dir()]
        self.near = [*self.roots, *(root for root in near if root.is_dir())]
        self._found: dict[Path, dict[str, list[Path]]] = {}

    def name_of(self, path: Path) -> str | None:
        """The place of a photograph in the folder; None outside of it and in what is made."""
        try:
            name = path.relative_to(self.folder)
        except ValueError:
            return None
        return None if name.parts[0] in OUTPUTS or any(part.startswith(".") for part in name.parts) else name.as_posix()

    def find(self, name: str, where: str) -> Path | None:
        """The photograph that a source calls `name`, a path with either slash; None where there is none.

        Raises: DataError where several could be meant.
        """
        plain = plain_name(name)
        for path in self._direct(plain):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                return path
        return self._indexed(PurePosixPath(plain).name, "name", where)

    def find_stem(self, stem: str, where: str, left_out: frozenset[Path] = frozenset()) -> Path | None:
        """The photograph `stem`.*, preferably one whose folders are those of `stem`. Raises DataError as `find`.

        Args:
            left_out: files that are no photographs.
        """
        found = self._indexed(stem, "stem", where, left_out)
        direct = self._direct(stem) if found is None else []
        for path in direct:
            for suffix in SUFFIXES:
                if (image := path.with_name(path.name + suffix)).is_file() and image not in left_out:
                    return image
        return found

    def _direct(self, plain: str) -> list[Path]:
        paths = [] if self.name_of(self.folder / plain) is None else [self.folder / plain]
        for root in self.near:
            paths += [root / plain, *(root / beside / plain for beside in BESIDE)]
        return paths

    def find_all(self, wanted: Iterable[tuple[str, str]]) -> list[Path]:
        """The photographs of (name, where). Raises DataError for those that are missing: how many, and the first."""
        wanted = list(wanted)
        return self._all([(name, where, self.find(name, where)) for name, where in wanted])

    def find_stems(self, wanted: Iterable[tuple[Sequence[str], str]], left_out: frozenset[Path]) -> list[Path]:
        """The photographs of (names without suffix, the first that fits counts; where). Raises as `find_all` does."""
        found = []
        for stems, where in wanted:
            paths = (self.find_stem(stem, where, left_out) for stem in stems)
            found.append((stems[0], where, next((path for path in paths if path is not None), None)))
        return self._all(found)

    def _all(self, found: Sequence[tuple[str, str, Path | None]]) -> list[Path]:
        missing = [(name, where) for name, where, path in found if path is None]
        if missing:
            raise missing_image(*missing[0], self, f"{len(missing)} of {len(found)}")
        return [path for _, _, path in found if path is not None]

    def _indexed(self, wanted: str, kind: str, where: str, left_out: frozenset[Path] = frozenset()) -> Path | None:
        key = PurePosixPath(plain_name(wanted)).name
        for root in (self.folder, *self.roots):
            paths = [path for path in self._index(root).get(f"{kind} {key}", []) if path not in left_out]
            if kind == "stem" and len(paths) > 1:
                paths = [path for path in paths if path.with_suffix("").as_posix().endswith(f"/{wanted}")] or paths
            if len(paths) > 1:
                raise DataError(
                    f"{where}: the name {wanted!r} fits {len(paths)} images, such as {paths[0]} and {paths[1]}; "
                    "expected one: file names must differ"
                )
            if paths:
                return paths[0]
        return None

    def _index(self, root: Path) -> dict[str, list[Path]]:
        """The photographs below a root under the keys `name <file name>` and `stem <file name without suffix>`."""
        if root not in self._found:
            index: dict[str, list[Path]] = {}
            for count, path in enumerate(walk(root, OUTPUTS if root == self.folder else MASKS)):
                if count >= MOST_FILES:
                    raise DataError(f"{root}: expected at most {MOST_FILES} photographs")
                for key in (f"name {path.name}", f"stem {path.stem}"):
                    index.setdefault(key, []).append(path)
            self._found[root] = index
        return self._found[root]


def missing_image(name: str, where: str, images: Images, count: str) -> DataError:
    """The error for photographs that are not there."""
    places = ", ".join(map(str, dict.fromkeys((images.folder, *images.near))))
    return DataError(
        f"{where}: no image {name!r} in {places} ({count} images are missing); --image_dir names their folder"
    )


def walk(root: Path, left_out: Sequence[str] = ()) -> Iterable[Path]:
    """The photographs below a folder, sorted, without hidden folders and those of its folders that are `left_out`."""
    for folder, folders, files in os.walk(root):
        top = Path(folder) == root
        folders[:] = sorted(one for one in folders if not one.startswith(".") and not (top and one in left_out))
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield Path(folder) / name


def plain_name(name: str) -> str:
    """A path of any system as one below a folder: `/`, no drive, no `..`; "image" where nothing is left."""
    text = name.encode("utf-8", "replace").decode().replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".", "..") and ":" not in part]
    return "/".join(part.replace("\0", "") for part in parts) or "image"


def new_name(name: str) -> str:
    """The name that a copied photograph gets: a plain one without spaces, in no hidden folder and none of ours."""
    parts = ["".join(one if one.isprintable() else "_" for one in part) for part in plain_name(name).split("/")]
    parts = ["_".join(part.split()).lstrip(".") or "_" for part in parts]
    return "/".join(["images", *parts] if parts[0] in OUTPUTS else parts)
