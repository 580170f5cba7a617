"""What all tests share: a fixed seed, few threads, tiny data, and the folder of reference data where there is one."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from spml.config import load_config
from spml.inference.outputs import InlineRefiner
from spml.propagate import DenseCRF

SHARED = Path(__file__).resolve().parents[2] / "shared"
COLOURS = np.array([[60, 60, 60], [200, 60, 60], [60, 200, 60], [60, 60, 200]], np.uint8)  # of four classes


# A shell's job in the background ignores Ctrl-C, and so would every process that it starts; tests send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> None:
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the repository, with real photographs."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder 'shared' beside the repository (photographs)")
    return SHARED


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of 40 x 48 pixels, a coloured box on grey; in turn weak labels, masks and regions; two lists."""
    folder = tmp_path_factory.mktemp("tiny data")  # with a space, as users' folders have
    rng = np.random.default_rng(0)
    for kind in ("image", "weak", "mask", "region"):
        (folder / kind).mkdir()
    lines: dict[str, list[str]] = {"train.txt": [], "val.txt": []}
    for number in range(8):
        mask = np.zeros((40, 48), np.uint8)
        top, left = rng.integers(4, 16, 2)
        mask[top : top + 18, left : left + 22] = 1 + number % 3
        weak = np.where(rng.random(mask.shape) < 0.1, mask, 254).astype(np.uint8)
        weak[:2] = 255
        region = (mask > 0) * 1 + 2 * (np.arange(48) > 24)[None, :]
        noise = rng.integers(-30, 30, (*mask.shape, 3))
        image = np.clip(COLOURS[mask].astype(int) + noise, 0, 255).astype(np.uint8)
        for kind, array in (("image", image), ("weak", weak), ("mask", mask), ("region", region.astype(np.uint8))):
            Image.fromarray(array).save(folder / kind / f"{number}.png")
        lines["train.txt"].append(f"image/{number}.png weak/{number}.png region/{number}.png")
        lines["val.txt"].append(f"image/{number}.png mask/{number}.png region/{number}.png")
    for name, rows in lines.items():
        (folder / name).write_text("\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("background\nred\ngreen\nblue\n")
    return folder


@pytest.fixture(scope="session")
def tiny_config_file(tiny_data: Path) -> Path:
    """A config that trains the tiny network on `tiny_data` in well under a second a step."""
    path = tiny_data / "config.yaml"
    path.write_text(
        f"""
dataset: {{dataset: boxes, data_dir: "{tiny_data}", classes: "{tiny_data}/classes.txt",
  train_data_list: "{tiny_data}/train.txt", test_data_list: "{tiny_data}/val.txt"}}
network: {{backbone_types: panoptic_deeplab_tiny, embedding_dim: 8, kmeans_num_clusters: [3, 3]}}
train: {{batch_size: 2, crop_size: [32, 32], max_iteration: 4, warmup_iteration: 2, freeze_stem: false,
  classifier_gradient: true}}
test: {{image_size: 0, crop_size: [40, 48], stride: [40, 48]}}
num_threads: 0
"""
    )
    return path


@pytest.fixture
def tiny_config(tiny_config_file: Path) -> Any:
    """The config of `tiny_config_file`."""
    return load_config(tiny_config_file)


@pytest.fixture
def inline_refiner(monkeypatch: pytest.MonkeyPatch) -> None:
    """CRFs run in this process: starting others takes seconds; test_engine_predict.py has the real ones.

    Skips without pydensecrf, as most tests of CRFs compare with the release, which is built on it.
    """
    pytest.importorskip("pydensecrf")

    class Here(InlineRefiner):  # a class as Refiner is, as modules that are imported from now on name it in types
        def __init__(self, crf: DenseCRF, workers: int) -> None:
            super().__init__(crf)

        def __enter__(self) -> InlineRefiner:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr("spml.inference.outputs.Refiner", Here)
