"""Memory and CAM files: `.npy` files that hold a pickled dict of arrays, read without running anything they contain.

It never looks up a name of the file. The few names that numpy writes for arrays map to the small classes below, and any
other name is an error. It does not call numpy's own constructors either, because some trust their arguments.
"""

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from spml.data.samples import DataError
from spml.files import write_atomically


class _Refused(pickle.UnpicklingError):
    """The file asks for something else than arrays."""


class _DType:
    """numpy.dtype of plain numbers (and of the one object array around the dict)."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if not re.fullmatch(r"[fiu][1248]|b1|O8?", code):
            raise _Refused(f"an array of type {code!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1] if state[1] in ("<", ">", "|") else "="

    def numbers(self, data: bytes) -> np.ndarray:
        if self.code[0] == "O":
            raise _Refused("an array of objects")
        return np.frombuffer(data, np.dtype(self.order + self.code))


class _Array:
    """numpy.ndarray: built empty, filled by its state (version, shape, dtype, is Fortran order, data)."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        if dtype.code[0] == "O":
            if shape != () or not isinstance(data, list) or len(data) != 1:
                raise _Refused("an array of objects")
            self.value = data[0]
        else:
            self.value = _shaped(dtype.numbers(data), shape, "F" if fortran else "C")


class _Name:
    """A function that the file may call. It takes no state, so a file cannot change it."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __setstate__(self, state: object) -> None:
        raise _Refused("a changed function")


def _shaped(numbers: np.ndarray, shape: tuple, order: Any) -> np.ndarray:
    native = numbers.dtype.newbyteorder("=")
    return np.array(numbers.reshape(shape, order=order), native, order="C")


def _from_buffer(data: bytes, dtype: _DType, shape: tuple, order: str) -> _Array:
    array = _Array()
    array.value = _shaped(dtype.numbers(data), shape, order)
    return array


_NAMES = {
    ("numpy", "ndarray"): "ndarray",  # only ever handed to _reconstruct
    ("numpy", "dtype"): _Name(_DType),
}
for _package in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _NAMES[f"{_package}.multiarray", "_reconstruct"] = _Name(lambda kind, shape, code: _Array())
    _NAMES[f"{_package}.multiarray", "scalar"] = _Name(lambda dtype, data: dtype.numbers(data)[0].item())
    _NAMES[f"{_package}.numeric", "_frombuffer"] = _Name(_from_buffer)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise _Refused(f"{module}.{name}")
        return _NAMES[module, name]


def load_dict_npy(path: str | Path) -> dict:
    """Read a dict of arrays that `np.save` pickled, under any numpy. Nothing in the file is run.

    Raises:
        DataError: missing, damaged, not a pickled dict, or holding anything but plain values and arrays of numbers.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            value = _load(file)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except _Refused as error:
        raise DataError(f"{path} is refused: it holds {error}; only a dict of arrays of numbers is read") from error
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read {path}: not a dict of arrays saved by numpy, or damaged ({reason})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a dict of arrays, got {value if isinstance(value, str) else type(value)}")
    return {key: item.value if isinstance(item, _Array) else item for key, item in value.items()}


def _load(file: BinaryIO) -> Any:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if not dtype.hasobject or shape != ():
        return f"an array of {dtype} {shape}"
    array = _Unpickler(file).load()
    return array.value if isinstance(array, _Array) else array


def read_memory_file(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a memory file: `prototype` (P, C) float32 and `prototype_label` (P,) int64. Raises DataError."""
    held = load_dict_npy(path)
    for key in ("prototype", "prototype_label"):
        if not isinstance(held.get(key), np.ndarray):
            raise DataError(f"{path}: expected a memory file with the array {key!r}, got keys {_keys(held)}")
    prototype, label = held["prototype"], held["prototype_label"]
    if prototype.ndim != 2 or prototype.dtype.kind != "f":
        raise DataError(f"{path}: expected prototype (P, C) float, got {prototype.shape} {prototype.dtype}")
    if label.shape != prototype.shape[:1] or label.dtype.kind not in "iu":
        raise DataError(
            f"{path}: expected prototype_label ({len(prototype)},) integer, got {label.shape} {label.dtype}"
        )
    return prototype.astype(np.float32, copy=False), label.astype(np.int64, copy=False)


def read_origin(path: str | Path) -> np.ndarray | None:
    """The segment that each prototype of a memory file comes from, as `write_memory_file` takes it.

    None where the file does not say so, as those of the release and of earlier versions. Raises DataError.
    """
    segment = load_dict_npy(path).get("segment")
    if not isinstance(segment, np.ndarray) or segment.ndim != 1 or segment.dtype.kind not in "iu":
        return None
    return segment.astype(np.int64, copy=False)


def write_memory_file(
    path: str | Path, prototype: np.ndarray, prototype_label: np.ndarray, segment: np.ndarray | None = None
) -> None:
    """Write a memory file as the release does, atomically: `prototype` (P, C), `prototype_label` (P,).

    `segment`, which the release does not have: (P,) the id of each prototype's segment in the image of segments that
    lies beside the memory, -1 for those of other views.
    """
    if prototype.ndim != 2 or prototype_label.shape != prototype.shape[:1]:
        raise ValueError(f"expected (P, C) and (P,), got {prototype.shape} and {prototype_label.shape}")
    held = {"prototype": prototype.astype(np.float32), "prototype_label": prototype_label.astype(np.int64)}
    if segment is not None:
        if segment.shape != prototype_label.shape:
            raise ValueError(f"expected segment {prototype_label.shape}, got {segment.shape}")
        held["segment"] = segment.astype(np.int64)
    _write(path, held)


def read_cam_file(path: str | Path) -> dict[int, np.ndarray]:
    """Read a CAM file: foreground class index (0 is the first class after the background) to float32 (H, W).

    An image without any foreground class has an empty dict. Raises DataError.
    """
    cams: dict[int, np.ndarray] = {}
    for key, cam in load_dict_npy(path).items():
        if isinstance(key, bool) or not isinstance(key, int) or key < 0:
            raise DataError(f"{path}: expected class indexes 0.. as keys of a CAM file, got {key!r}")
        if not isinstance(cam, np.ndarray) or cam.ndim != 2 or cam.dtype.kind != "f":
            got = f"{cam.shape} {cam.dtype}" if isinstance(cam, np.ndarray) else type(cam).__name__
            raise DataError(f"{path}: expected a CAM (H, W) float of class {key}, got {got}")
        if cams and cam.shape != (first := next(iter(cams.values()))).shape:
            raise DataError(f"{path}: expected CAMs of one size, got {first.shape} and {cam.shape}")
        cams[key] = cam.astype(np.float32, copy=False)
    return cams


def write_cam_file(path: str | Path, cams: Mapping[int, np.ndarray]) -> None:
    """Write a CAM file as the release's tools do, atomically: foreground class index to (H, W)."""
    _write(path, {int(key): np.asarray(cam, np.float32) for key, cam in cams.items()})


def _write(path: str | Path, held: dict) -> None:
    write_atomically(path, lambda file: np.save(file, np.array(held, dtype=object), allow_pickle=True))


def _keys(held: dict) -> str:
    return ", ".join(map(str, held)) or "none"
