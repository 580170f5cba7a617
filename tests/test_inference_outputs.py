"""Who refines: processes for a CRF on the CPU, this process for one on a GPU."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from spml.errors import UserError
from spml.inference import outputs
from spml.inference.outputs import InlineRefiner, Refiner, Unrefined, open_refiner, write_labels
from spml.propagate import DenseCRF


def test_without_a_crf_there_is_nothing():
    with open_refiner(None) as refiner:
        assert refiner is None


def test_processes_on_the_cpu_and_this_one_on_a_gpu():
    for crf in (DenseCRF(backend="torch"), DenseCRF(backend="torch", device=torch.device("cpu"))):
        with open_refiner(crf, 3) as refiner:
            assert isinstance(refiner, Refiner) and refiner.workers == 3 and refiner.crf == crf
    with open_refiner(DenseCRF(device=torch.device("cuda")), 3) as refiner:
        assert isinstance(refiner, InlineRefiner) and refiner.crf.backend == "torch"


def test_pydensecrf_is_the_cpu_s_even_beside_a_gpu():
    pytest.importorskip("pydensecrf")
    with open_refiner(DenseCRF(backend="pydensecrf", device=torch.device("cuda"))) as refiner:
        assert isinstance(refiner, Refiner)


def test_a_missing_pydensecrf_is_said_before_any_work(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(UserError, match="pip install"):
        open_refiner(DenseCRF(backend="pydensecrf"))
    with open_refiner(DenseCRF(device=torch.device("cpu"))) as refiner:
        assert isinstance(refiner, Refiner) and refiner.crf.backend == "torch"
    assert capsys.readouterr().out.count("pydensecrf is not installed") == 1


def test_large_images_do_not_queue_up(monkeypatch):
    begun = []

    class Done:
        def __init__(self, name):
            self.name = name

        def result(self):
            begun.remove(self.name)

    refiner = Refiner(DenseCRF(backend="torch"), 4)
    monkeypatch.setattr(outputs, "LINE_BYTES", 1000)
    monkeypatch.setattr(refiner.pool, "submit", lambda function, crf, work: begun.append(work.name) or Done(work.name))
    image = np.zeros((10, 10, 3), np.uint8)
    for name, classes, expected in (("a", 1, "a"), ("b", 1, "ab"), ("c", 1, "bc"), ("d", 9, "d"), ("e", 1, "e")):
        refiner.submit(Unrefined("", name, image, np.zeros((classes, 10, 10), np.float32), (10, 10)))
        assert "".join(begun) == expected
    with refiner:
        pass
    assert not begun


def test_in_this_process(tmp_path):
    image = np.zeros((6, 8, 3), np.uint8)
    image[:, 4:] = 200
    probability = torch.tensor([0.3, 0.7])[:, None, None].repeat(1, 6, 8)
    probability[:, :, :4] = probability[:, :, :4].flip(0)
    void = np.zeros((12, 16), bool)
    void[0] = True
    refiner = InlineRefiner(DenseCRF(backend="torch"))
    refiner.submit(Unrefined(tmp_path, "a", image, probability, (12, 16), void))
    label = np.array(Image.open(tmp_path / "semantic_gray" / "a.png"))
    assert (label[0] == 255).all() and (label[1:, :8] == 0).all() and (label[1:, 8:] == 1).all()
    write_labels(tmp_path, "plain", np.zeros((2, 2), np.uint8))
    write_labels(tmp_path, "none", np.zeros((2, 2), np.uint8), background=None)
    colours = [np.array(Image.open(tmp_path / "semantic_color" / f"{name}.png"))[0, 0] for name in ("plain", "none")]
    assert not colours[0].any() and colours[1].any()  # class 0 is black where it is the background alone
