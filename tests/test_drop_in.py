"""Files that users of the release have, through our command lines: YAML, snapshot, memory, CAMs; and hostile ones."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spml.config import load_config
from spml.data.samples import read_label
from spml.engine.run import train
from spml.errors import UserError
from spml.models import build_classifier, build_embedding_model, save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
CLASS = 3  # what the classifier and the memory say of everything
YAML = """
gpus: "0,1,2,3"
num_threads: 8
dataset: {num_classes: 21, semantic_ignore_index: 255, dataset: VOC2012, data_dir: DATA_ROOT,
  train_data_list: TRAIN_DATA_LIST, test_data_list: TEST_DATA_LIST, color_map_path: misc/colormapvoc.mat}
network: {pretrained: snapshots/imagenet/trained/resnet-101-cuhk.pth, embedding_dim: 64, label_divisor: 2048,
  use_syncbn: true, kmeans_iterations: 10, kmeans_num_clusters: !!python/tuple [6, 6],
  backbone_types: panoptic_deeplab_101, prediction_types: segsort, pixel_means: [0.485, 0.456, 0.406],
  pixel_stds: [0.229, 0.224, 0.225], aspp_feature_dim: 512, pspp_feature_dim: 512}
train: {resume: false, lr_policy: poly, begin_iteration: 0, snapshot_step: 30000, tensorboard_step: 200,
  max_iteration: 30000, random_mirror: true, random_scale: true, random_crop: true, shuffle: true,
  warmup_iteration: 100, decay_iterations: [30000], base_lr: 3e-3, weight_decay: 5e-4, momentum: 0.9, batch_size: 4,
  crop_size: [512, 512], memory_bank_size: 2, sem_ann_concentration: 6, sem_occ_concentration: 12,
  img_sim_concentration: 16, feat_aff_concentration: 0, sem_ann_loss_types: segsort, sem_occ_loss_types: segsort,
  img_sim_loss_types: segsort, feat_aff_loss_types: none, sem_ann_loss_weight: 1.0, sem_occ_loss_weight: 0.5,
  img_sim_loss_weight: 0.1, feat_aff_loss_weight: 0.0}
test: {scales: [1], image_size: 512, crop_size: [512, 512], stride: [512, 512]}
"""


class Attack:
    """Pickled, it is a command that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def save_npy(path: Path, content: dict) -> None:
    """As the release does it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, content)  # type: ignore[arg-type]


def save_snapshot(folder: Path, config) -> None:
    """`model-29999.pth` as DataParallel leaves it; its classifier calls everything CLASS."""
    model, classifier = build_embedding_model(config), build_classifier(config)
    states = [{f"module.{key}": value for key, value in part.state_dict().items()} for part in (model, classifier)]
    bias = [key for key in states[1] if key.endswith("bias")][-1]
    assert states[1][bias].shape == (config.dataset.num_classes,)
    states[1][bias][CLASS] = 1000
    folder.mkdir()
    torch.save({"embedding_model": states[0], "prediction_model": states[1]}, folder / "model-29999.pth")


@pytest.fixture
def released(tmp_path: Path, tiny_data: Path) -> Path:
    """A folder with released files; `tiny` in place of a ResNet-101, whose keys other tests compare."""
    (tmp_path / "voc.yaml").write_text(YAML)
    rows = (tiny_data / "train.txt").read_text().splitlines()[:2]
    (tmp_path / "list.txt").write_text("".join("/" + row.replace(" ", " /") + "\n" for row in rows))
    save_snapshot(tmp_path / "stage1", load_config(tmp_path / "voc.yaml", overrides()))
    prototype = np.random.default_rng(0).normal(size=(25, 64)).astype(np.float32)
    for name in "01":
        content = {"prototype": prototype, "prototype_label": np.full(25, CLASS)}
        save_npy(tmp_path / "memory" / "semantic_prototype" / f"{name}.npy", content)
        cam = np.zeros((40, 48), np.float32)
        cam[:20] = 0.9
        save_npy(tmp_path / "cam" / f"{name}.npy", {4: cam})
    return tmp_path


def overrides() -> list[str]:
    """What makes the tests quick: a small network and small images; the file stays as it is."""
    return ["network.backbone_types=panoptic_deeplab_tiny", "test.image_size=64", "test.crop_size=[64,64]"]


def run_script(monkeypatch, folder: Path, data: Path, script: str, *words: object) -> None:
    path = ROOT / "pyscripts" / "inference" / script
    spec = importlib.util.spec_from_file_location(path.stem + "_script", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    own = ["--cfg_path", folder / "voc.yaml", "--snapshot_dir", folder / "stage1", "--data_dir", data]
    own += ["--data_list", folder / "list.txt", "--save_dir", folder / "out", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [script, *map(str, [*own, *words, *overrides()])])
    module.main()


def test_prediction_by_classifier_and_memory(released: Path, tiny_data: Path, monkeypatch) -> None:
    grid = ("--kmeans_num_clusters", "12,12", "--label_divisor", "2048")
    for words in (("--predictor", "softmax"), ("--semantic_memory_dir", released / "memory", *grid, "--overwrite")):
        run_script(monkeypatch, released, tiny_data, "inference.py", *words)
        for name in "01":
            label = read_label(released / "out" / "semantic_gray" / f"{name}.png")
            assert label.shape == (40, 48) and (label == CLASS).all()
    assert (released / "out" / "semantic_cluster" / "1.png").is_file()


def test_memory_and_cam_labels(released: Path, tiny_data: Path, monkeypatch) -> None:
    run_script(monkeypatch, released, tiny_data, "prototype.py", "--kmeans_num_clusters", "12,12")
    held = np.load(released / "out" / "semantic_prototype" / "0.npy", allow_pickle=True).item()  # as the release reads
    assert held["prototype"].dtype == np.float32 and held["prototype"].shape == (len(held["prototype_label"]), 64)
    words = ("--source", "cam", "--cam_dir", released / "cam", "--walk_steps", "0", "--no-crf")
    run_script(monkeypatch, released, tiny_data, "pseudo_label.py", *words, "--save_dir", released / "labels")
    label = read_label(released / "labels" / "semantic_gray" / "0.png")
    assert (label[:12] == 5).all() and (label[28:] == 0).all()  # class 4 of the CAM file is the fifth after background


@pytest.mark.parametrize("kind", ["memory", "cam", "snapshot"])
def test_hostile_files_run_nothing(released: Path, tiny_data: Path, monkeypatch, kind: str) -> None:
    attack = {"prototype": Attack(released / "attacked"), "prototype_label": np.zeros(1), 4: np.zeros((40, 48))}
    words: tuple[object, ...] = ("inference.py", "--semantic_memory_dir", released / "memory")
    if kind == "memory":
        save_npy(released / "memory" / "semantic_prototype" / "0.npy", attack)
    elif kind == "cam":
        save_npy(released / "cam" / "0.npy", attack)
        words = ("pseudo_label.py", "--source", "cam", "--cam_dir", released / "cam", "--no-crf", "--walk_steps", "0")
    else:
        torch.save(attack, released / "stage1" / "model-29999.pth")
    with pytest.raises(UserError, match="refused") as caught:
        run_script(monkeypatch, released, tiny_data, *words)
    assert "\n" not in str(caught.value) and not (released / "attacked").exists()


def test_a_hostile_state_runs_nothing(tiny_config, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model-0.pth", build_embedding_model(tiny_config), build_classifier(tiny_config))
    torch.save({"step": 0, "optimizer": Attack(tmp_path / "attacked")}, tmp_path / "model-0.state.pth")
    with pytest.raises(UserError, match=r"model-0.state.pth cannot be read, refused: .*mkdir") as caught:
        train(tiny_config, tmp_path, device="cpu", resume=True)
    assert "\n" not in str(caught.value) and not (tmp_path / "attacked").exists()
