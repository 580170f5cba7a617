"""The quickstart: built-in data, SPML and its baseline from points, a result and a picture of it."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spml.config import load_config
from spml.data.dataset import read_sample
from spml.data.lists import read_list
from spml.data.samples import read_label
from spml.data.shapes import make_shapes
from spml.files import write_json
from spml.inference.predictors import build_predictor, load_models, predict_list
from spml.inference.segmenter import Segmenter
from spml.inference.views import ViewPlan
from spml.pipelines.compare import compare_runs, plan_runs
from spml.pipelines.compared_run import ComparedRun, Guard
from spml.visualize.report import PictureRow, quickstart_picture

NUM_TRAIN, NUM_VAL = 300, 80
PICTURES = (0, 1, 2, 3)  # training images that the picture shows


def quickstart(
    cfg_path: str | Path,
    save_dir: str | Path,
    seeds: Sequence[int],
    device: torch.device,
    overrides: Sequence[str] = (),
    guard: Guard = nullcontext,
) -> dict[str, Any]:
    """Make the data, compare both methods, write `result.json` and `result.png`, and return the result.

    Args:
        cfg_path: a config; its data paths are replaced by those of `<save_dir>/data`.
        save_dir: gets everything; later calls keep finished parts.
        guard: see `compare`.
    """
    folder = Path(save_dir)
    data = folder / "data"
    load_config(cfg_path, ["dataset.classes=null", *overrides])  # a mistake shows before the data are drawn
    make_shapes(data, NUM_TRAIN, NUM_VAL)
    lists = [f"dataset.train_data_list={data / 'train.txt'}", f"dataset.test_data_list={data / 'val.txt'}"]
    own = [f"dataset.data_dir={data}", f"dataset.classes={data / 'classes.txt'}", *lists]
    runs = plan_runs(cfg_path, folder, seeds, [*own, *overrides])
    result = compare_runs(runs, device, guard)
    write_json(folder / "result.json", result)
    picture(runs[:2], data, folder / "result.png", device)
    return result


def picture(runs: Sequence[ComparedRun], data: Path, path: Path, device: torch.device) -> None:
    """Write the predictions of SPML and the baseline for some training images; they learned from the points alone."""
    spml, baseline = runs
    config, plan = spml.config, ViewPlan.from_config(spml.config)
    annotated = read_list(config.dataset.train_data_list, data, columns=3)
    samples = [annotated[index] for index in PICTURES]
    masks = {sample.name: sample.label for sample in read_list(data / "train_mask.txt", data, columns=2)}
    for run in runs:
        predictor = build_predictor(run.config, "softmax", run.snapshot, plan, device)
        predict_list(run.config, samples, predictor, run.folder / "picture")
    model, _ = load_models(config, spml.snapshot, device, with_classifier=False)
    segmenter = Segmenter.from_config(config, model, plan, device)
    rows = []
    for sample in samples:
        read = read_sample(sample, config.network.pixel_means, config.network.pixel_stds)
        size = read.image.shape[-2:]
        with torch.no_grad():
            embedding = model(read.image[None].to(device), size)[0].cpu()
        segments = segmenter(read.image[None], keep_padding=False)[0][0].cpu().numpy()
        labels = [read_label(run.folder / "picture" / "semantic_gray" / f"{sample.name}.png") for run in runs]
        mask = masks[sample.name]
        assert read.semantic is not None and read.instance is not None and mask is not None
        rows.append(
            PictureRow(
                image=read.pixels,
                annotation=read.semantic.numpy().astype(np.uint8),
                oversegmentation=read.instance.numpy(),
                embedding=embedding,
                segments=segments,
                prediction=labels[0],
                truth=read_label(mask),
                baseline=labels[1],
            )
        )
    quickstart_picture(rows, path, config.dataset.class_names)
