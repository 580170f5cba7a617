"""An image of 6000 x 4000 pixels in bounded memory: the peak of each command line, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spml.config import load_config
from spml.data.pickled import write_cam_file
from spml.models import build_classifier, build_embedding_model, save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
SIZE = (4000, 6000)
# GiB with the CRF's process, where 6.1 were measured; at full size two maps of logits would take 4, a walk 500.
BOUND = 8.0
MEASURE = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stop:
    print("status", stop.code or 0)
kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
print("peak", *(resource.getrusage(kind).ru_maxrss / 2**20 for kind in kinds))
"""
COMMANDS = {
    "softmax": "inference --predictor softmax --scales 0.5,1 --flip",
    "retrieval": "inference --scales 0.5,1 --flip",
    "crf": "inference --predictor softmax --crf --crf_workers 1 --crf_iter_max 2",
    "cam": "pseudo_label --source cam --no-crf",
    "softmax walk": "pseudo_label --source softmax --no-crf",
    "points": "pseudo_label --source points --no-crf",
}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="needs ru_maxrss in kB")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).resize(SIZE[::-1]).save(folder / "x.png")
    label = np.full(SIZE, 254, np.uint8)
    label[::50, ::50] = rng.integers(0, 21, (80, 120))
    Image.fromarray(label).save(folder / "x_label.png")
    (folder / "list.txt").write_text("x.png x_label.png\n")
    write_cam_file(folder / "cam" / "x.npy", {kind: rng.random(SIZE, dtype=np.float32) for kind in (3, 7)})
    (folder / "c.yaml").write_text(
        f"dataset: {{dataset: VOC2012, num_classes: 21, data_dir: '{folder}'}}\n"
        "network: {backbone_types: panoptic_deeplab_tiny, embedding_dim: 64, kmeans_num_clusters: [12, 12]}\n"
        "test: {image_size: 0, crop_size: [512, 512], stride: [512, 512]}\n"
    )
    config = load_config(folder / "c.yaml")
    torch.manual_seed(0)
    save_checkpoint(folder / "model-0.pth", build_embedding_model(config), build_classifier(config))
    assert measure(folder, "prototype", folder / "memory") < BOUND
    return folder


def measure(folder: Path, script: str, save_dir: Path, *words: str) -> float:
    """The peak of a command line in GiB, with that of its largest process."""
    own = ["--cfg_path", folder / "c.yaml", "--snapshot_dir", folder, "--device", "cpu", "--save_dir", save_dir]
    own += ["--data_list", folder / "list.txt"]
    path = ROOT / "pyscripts" / "inference" / f"{script}.py"
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, [path, *own, *words])], capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert "status 0" in lines, done.stderr[-2000:]
    own_peak, of_child = map(float, lines[-1].split()[1:])
    print(f"{script} {' '.join(words)}: {own_peak:.1f} GiB, largest process of it {of_child:.1f} GiB")
    return own_peak + of_child


@pytest.mark.parametrize("name", COMMANDS)
def test_peak(folder: Path, tmp_path: Path, name: str) -> None:
    script, *words = COMMANDS[name].split()
    if name == "crf":
        pytest.importorskip("pydensecrf")
    words += ["--semantic_memory_dir", str(folder / "memory")]
    words += ["--cam_dir", str(folder / "cam")] if script == "pseudo_label" else []
    assert measure(folder, script, tmp_path, *words) < BOUND
    assert Image.open(tmp_path / "semantic_gray" / "x.png").size == SIZE[::-1]
