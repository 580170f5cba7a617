"""Released memory and CAM files, files of other numpy versions, and files that try to run something."""

import io
import pickle
import subprocess

import numpy as np
import pytest

from spml.data.pickled import load_dict_npy, read_cam_file, read_memory_file, write_cam_file, write_memory_file
from spml.data.samples import DataError


def npy_around(payload: bytes) -> bytes:
    """A `.npy` file of an object array whose pickle is `payload`."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    return file.getvalue() + payload


def test_memory_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    for count in (0, 1, 17):
        prototype, label = rng.normal(size=(count, 8)).astype(np.float32), rng.integers(0, 21, count)
        write_memory_file(tmp_path / "a/x.npy", prototype, label)
        read_prototype, read_label = read_memory_file(tmp_path / "a/x.npy")
        assert read_prototype.dtype == np.float32 and read_label.dtype == np.int64
        np.testing.assert_array_equal(read_prototype, prototype)
        np.testing.assert_array_equal(read_label, label)
    released = np.load(tmp_path / "a/x.npy", allow_pickle=True).item()  # how the released code reads it
    np.testing.assert_array_equal(released["prototype"], prototype)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.npy"]


def test_cam_round_trip(tmp_path):
    cams = {0: np.random.default_rng(0).random((5, 7), np.float32), 19: np.zeros((5, 7), np.float32)}
    write_cam_file(tmp_path / "x.npy", cams)
    read = read_cam_file(tmp_path / "x.npy")
    assert list(read) == [0, 19] and read[0].flags.writeable
    for key in cams:
        np.testing.assert_array_equal(read[key], cams[key])
    write_cam_file(tmp_path / "none.npy", {})
    assert read_cam_file(tmp_path / "none.npy") == {}


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_every_way_numpy_writes(tmp_path, protocol, package):
    order = np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3))
    held = {np.int64(3): order, "flag": np.arange(3) > 1, "wide": np.arange(4, dtype=np.float64)[::2]}
    payload = pickle.dumps(np.array(held, dtype=object), protocol=protocol)
    new, old = b"numpy._core", b"numpy.core"
    if protocol == 3:
        payload = payload.replace(new, package).replace(old, package)
    else:  # names are preceded by their length
        for leaf in (b".multiarray", b".numeric"):
            for name in (new, old):
                payload = payload.replace(
                    bytes([len(name + leaf)]) + name + leaf, bytes([len(package + leaf)]) + package + leaf
                )
        start = payload.index(b"\x95") + 1  # and the first frame by its own
        payload = payload[:start] + (len(payload) - start - 8).to_bytes(8, "little") + payload[start + 8 :]
    (tmp_path / "x.npy").write_bytes(npy_around(payload))
    read = load_dict_npy(tmp_path / "x.npy")
    assert list(read) == [3, "flag", "wide"] and type(next(iter(read))) is int
    for key, array in zip(read, held.values(), strict=True):
        np.testing.assert_array_equal(read[key], array)
        assert read[key].dtype == array.dtype.newbyteorder("=")


class _Runs:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "name"),
    [(subprocess.getoutput, "subprocess.getoutput"), (eval, "eval"), (getattr, "getattr"), (np.load, "load")],
)
def test_hostile_files_run_nothing(tmp_path, function, name):
    trace = tmp_path / "ran"
    runs = _Runs(function, f"open({str(trace)!r}, 'w')" if function is eval else f"touch {trace}")
    for position, held in enumerate(({0: runs}, runs)):
        (tmp_path / "x.npy").write_bytes(npy_around(pickle.dumps(np.array(held, dtype=object))))
        with pytest.raises(DataError, match=rf"x.npy is refused: it holds \S*{name}; only a dict") as caught:
            (read_cam_file, read_memory_file)[position](tmp_path / "x.npy")
        assert "\n" not in str(caught.value)
    assert not trace.exists()


REDUCE_NDARRAY = b"cnumpy\nndarray\n((I1\ntcnumpy\ndtype\n(S'O8'\ntRS'12345678'\ntR."
CHANGE_DTYPE = b"cnumpy\ndtype\n}S'function'\nI1\nsb."
DOTTED = b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__base__\x93."
OBJECTS_FROM_BYTES = (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    b"(I1\n(I1\ntcnumpy\ndtype\n(S'O8'\ntRI00\nS'12345678'\ntb."
)


@pytest.mark.parametrize("payload", [REDUCE_NDARRAY, CHANGE_DTYPE, DOTTED, OBJECTS_FROM_BYTES, b"P1\n.", b"\x82\x01."])
def test_tricks_with_the_allowed_names(tmp_path, payload):
    (tmp_path / "x.npy").write_bytes(npy_around(payload))
    with pytest.raises(DataError, match="x.npy") as caught:
        load_dict_npy(tmp_path / "x.npy")
    assert "\n" not in str(caught.value)


def test_arrays_of_objects_and_odd_types_are_refused(tmp_path):
    for value in (np.array([{}, 1], dtype=object), np.zeros(2, "M8[s]"), np.zeros(2, [("a", "f4")]), np.zeros(2, "U3")):
        np.save(tmp_path / "x.npy", np.array({0: value}, dtype=object), allow_pickle=True)
        with pytest.raises(DataError, match=r"x.npy is refused|damaged"):
            load_dict_npy(tmp_path / "x.npy")


def test_damaged_and_other_files(tmp_path):
    path = tmp_path / "x.npy"
    with pytest.raises(DataError, match="cannot read .*x.npy: No such file"):
        load_dict_npy(path)
    write_memory_file(path, np.ones((4, 3)), np.arange(4))
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[:60], whole[:-40]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot read .*x.npy") as caught:
            load_dict_npy(path)
        assert "\n" not in str(caught.value)
    np.save(path, np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"expected a dict of arrays, got an array of float64 \(2, 3\)"):
        load_dict_npy(path)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"prototype": np.zeros((2, 3), np.float32)}, "'prototype_label', got keys prototype"),
        ({}, "'prototype', got keys none"),
        ({"prototype": np.zeros(3, np.float32), "prototype_label": np.zeros(3, int)}, r"prototype \(P, C\) float"),
        ({"prototype": np.zeros((2, 3), int), "prototype_label": np.zeros(2, int)}, "got .* int64"),
        (
            {"prototype": np.zeros((2, 3), np.float32), "prototype_label": np.zeros(3, int)},
            r"\(2,\) integer, got \(3,\)",
        ),
        ({"prototype": np.zeros((2, 3), np.float32), "prototype_label": np.zeros(2)}, "integer, got .* float64"),
    ],
)
def test_memory_files_that_are_not(tmp_path, held, message):
    np.save(tmp_path / "x.npy", np.array(held, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=message):
        read_memory_file(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"a": np.zeros((2, 3), np.float32)}, "class indexes 0.. as keys of a CAM file, got 'a'"),
        ({-1: np.zeros((2, 3), np.float32)}, "got -1"),
        ({0: np.zeros(3, np.float32)}, r"CAM \(H, W\) float of class 0, got \(3,\) float32"),
        ({0: [1, 2]}, "got list"),
        ({0: np.zeros((2, 3), int)}, "got .* int64"),
        ({0: np.zeros((2, 3), np.float32), 1: np.zeros((3, 2), np.float32)}, "one size"),
    ],
)
def test_cam_files_that_are_not(tmp_path, held, message):
    np.save(tmp_path / "x.npy", np.array(held, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=message):
        read_cam_file(tmp_path / "x.npy")
