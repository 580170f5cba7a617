"""Images of one pixel, one row, one column, odd and prime sides, through every command line with a network."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spml.config import load_config
from spml.data.pickled import read_memory_file, write_cam_file
from spml.models import build_classifier, build_embedding_model, save_checkpoint

SCRIPTS = Path(__file__).resolve().parents[1] / "pyscripts" / "inference"
SIZES = {"dot": (1, 1), "row": (1, 57), "column": (61, 1), "small": (5, 7), "odd": (33, 79)}
VIEWS = ["--scales", "0.5,1,1.7", "--flip"]
WHOLE = ["test.crop_size=[0,0]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("sizes"), np.random.default_rng(0)
    for number, (name, size) in enumerate(SIZES.items()):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{name}.png")
        label = np.where(rng.random(size) < 0.5, 254, number % 3).astype(np.uint8)
        label[0, 0] = 1 + number % 3
        Image.fromarray(label).save(folder / f"{name}_label.png")
        write_cam_file(folder / "cam" / f"{name}.npy", {number % 3: rng.random(size, dtype=np.float32)})
    (folder / "list.txt").write_text("".join(f"{name}.png {name}_label.png\n" for name in SIZES))
    (folder / "c.yaml").write_text(
        f"dataset: {{dataset: sizes, num_classes: 4, data_dir: '{folder}'}}\n"
        "network: {backbone_types: panoptic_deeplab_tiny, embedding_dim: 8, kmeans_num_clusters: [3, 3]}\n"
        "test: {image_size: 0, crop_size: [32, 40], stride: [24, 24]}\n"
    )
    config = load_config(folder / "c.yaml")
    torch.manual_seed(0)
    save_checkpoint(folder / "model-0.pth", build_embedding_model(config), build_classifier(config))
    run(folder, "prototype", folder / "memory", *VIEWS)
    return folder


def run(folder: Path, script: str, save_dir: Path, *words: object) -> None:
    own = ["--cfg_path", folder / "c.yaml", "--snapshot_dir", folder, "--data_dir", folder, "--device", "cpu"]
    own += ["--data_list", folder / "list.txt", "--save_dir", save_dir]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, [*own, *words])])
        runpy.run_path(str(SCRIPTS / f"{script}.py"))["main"]()


def check(save_dir: Path) -> None:
    for name, size in SIZES.items():
        label = np.array(Image.open(save_dir / "semantic_gray" / f"{name}.png"))
        assert label.shape == size and set(np.unique(label)) <= {0, 1, 2, 3}


@pytest.mark.parametrize(
    "more", [[], ["--crf"], VIEWS, [*VIEWS, "--crf"], ["test.image_size=50"], WHOLE, [*VIEWS, *WHOLE]]
)
@pytest.mark.parametrize("predictor", ["softmax", "retrieval"])
def test_prediction(folder: Path, tmp_path: Path, inline_refiner: None, predictor: str, more: list[str]) -> None:
    memory = ["--semantic_memory_dir", folder / "memory"] if predictor == "retrieval" else []
    words = ["--predictor", predictor, *memory, *more]
    run(folder, "inference", tmp_path, *words)
    check(tmp_path)


@pytest.mark.parametrize("more", [[], [*VIEWS, "--walk_steps", "2", "--no-crf"], ["--no-flip", "--walk_steps", "0"]])
@pytest.mark.parametrize("source", ["cam", "softmax", "retrieval", "points"])
def test_pseudo_labels(folder: Path, tmp_path: Path, inline_refiner: None, source: str, more: list[str]) -> None:
    folders = {"cam": ["--cam_dir", folder / "cam"], "retrieval": ["--semantic_memory_dir", folder / "memory"]}
    run(folder, "pseudo_label", tmp_path, "--source", source, *folders.get(source, []), *more)
    check(tmp_path)


def test_memory(folder: Path) -> None:
    for name in SIZES:
        prototype, label = read_memory_file(folder / "memory" / "semantic_prototype" / f"{name}.npy")
        assert len(prototype) == len(label) and np.allclose(np.linalg.norm(prototype, axis=1), 1, rtol=1e-4)
        assert set(label) <= {0, 1, 2, 3} and (len(label) >= 1 or name == "odd")
