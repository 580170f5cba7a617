"""SPML beside its baseline, partial cross-entropy, on the same network, data, steps and seeds."""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spml.config import load_config
from spml.data.lists import read_list
from spml.engine.run import train
from spml.errors import UserError
from spml.evaluation.folders import evaluate_folder
from spml.files import write_json
from spml.inference.memory import fill_memory
from spml.inference.predictors import build_predictor, load_models, predict_list
from spml.inference.segmenter import Segmenter
from spml.inference.views import ViewPlan
from spml.visualize.report import table

BASELINE = (
    "train.sem_ann_loss_types=none",
    "train.sem_occ_loss_types=none",
    "train.img_sim_loss_types=none",
    "train.feat_aff_loss_types=none",
    "train.lent_cross_entropy_weight=0",
    "train.classifier_gradient=true",
)
Guard = Callable[[], AbstractContextManager[threading.Event | None]]
METHODS: dict[str, tuple[str, ...]] = {"spml": (), "partial_cross_entropy": BASELINE}
PREDICTORS = {"softmax": "mean_iou", "retrieval": "retrieval_mean_iou"}  # and the name of their figure


@dataclass(frozen=True)
class Run:
    """One method with one seed: its config and the folder that holds all of it."""

    method: str
    seed: int
    config: Any
    folder: Path

    @property
    def snapshot(self) -> Path:
        """The model after the last step."""
        return self.folder / f"model-{self.config.train.max_iteration - 1}.pth"

    def predictions(self, predictor: str) -> Path:
        """Where the label images of "softmax" or "retrieval" are."""
        return self.folder / predictor / "semantic_gray"


def method_list(text: str) -> list[str]:
    """`spml,partial_cross_entropy` as names of METHODS; an argparse type."""
    names = text.split(",")
    if not set(names) <= set(METHODS):
        raise argparse.ArgumentTypeError(
            f"expected names out of {', '.join(METHODS)} separated by commas, got {text!r}"
        )
    return names


def plan_runs(
    cfg_path: str | Path,
    save_dir: str | Path,
    seeds: Sequence[int],
    overrides: Sequence[str] = (),
    methods: Sequence[str] = tuple(METHODS),
) -> list[Run]:
    """Return the runs of a comparison, seed by seed, without starting any."""
    runs = []
    for seed in seeds:
        for method in methods:
            config = load_config(cfg_path, [*overrides, *METHODS[method], f"train.seed={seed}"])
            runs.append(Run(method, seed, config, Path(save_dir) / method / f"seed{seed}"))
    return runs


def compare(runs: Sequence[Run], device: torch.device, guard: Guard = nullcontext) -> dict[str, Any]:
    """Train and evaluate every run that is not finished yet.

    `guard`: a context around each training, which yields an event; once it is set, training saves and ends.

    Returns:
        For each method `mean_iou` (the classifier's, mean over seeds, per cent, on dataset.test_data_list),
        `retrieval_mean_iou`, the same for each seed, their standard deviations over seeds where there are several,
        and `seconds` of training; `seconds` of all.

    Raises:
        KeyboardInterrupt: the event was set during training, after its snapshot; the same call goes on from there.
        UserError: a folder that holds the result of another config.
    """
    outcomes = [run_once(run, device, guard) for run in runs]
    result: dict[str, Any] = {}
    for method in dict.fromkeys(run.method for run in runs):
        found = [outcome for run, outcome in zip(runs, outcomes, strict=True) if run.method == method]
        result[method] = {"training_seconds": round(statistics.mean(o["training_seconds"] for o in found), 1)}
        for figure in PREDICTORS.values():
            values = [o[figure] for o in found]
            result[method][figure] = round(statistics.mean(values), 2)
            if len(values) > 1:
                result[method][f"{figure}_std"] = round(statistics.stdev(values), 2)
                result[method][f"{figure}_seeds"] = values
    result["seconds"] = round(sum(outcome["seconds"] for outcome in outcomes), 1)
    return result


def run_once(run: Run, device: torch.device, guard: Guard = nullcontext) -> dict[str, Any]:
    """Train, fill a memory from the weak labels, predict and evaluate both ways; or read what an earlier call found."""
    begun, path = run.folder / "config.yaml", run.folder / "outcome.json"
    if begun.is_file() and load_config(begun) != run.config:
        raise UserError(f"{begun}: is of another config: expected a folder of its own for each config")
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    begin = time.monotonic()
    print(f"{run.method}, seed {run.seed}: {run.folder}")
    with guard() as stop:
        finished = train(run.config, run.folder, stop=stop, device=device, resume=True).finished
    if not finished:
        raise KeyboardInterrupt
    trained = time.monotonic()
    outcome = {**evaluate(run, device), "training_seconds": round(trained - begin, 1)}
    outcome["seconds"] = round(time.monotonic() - begin, 1)
    write_json(path, outcome)
    return outcome


def evaluate(run: Run, device: torch.device) -> dict[str, float]:
    """Predict the test list by classifier and by retrieval, and return both mean IoUs in per cent."""
    config, data, plan = run.config, run.config.dataset, ViewPlan.from_config(run.config)
    model, _ = load_models(config, run.snapshot, device, with_classifier=False)
    weak = read_list(data.train_data_list, data.data_dir, columns=2)
    fill_memory(config, weak, Segmenter.from_config(config, model, plan, device), run.folder / "memory")
    test = read_list(data.test_data_list, data.data_dir, columns=2)
    found = {}
    for kind, figure in PREDICTORS.items():
        predictor = build_predictor(config, kind, run.snapshot, plan, device, run.folder / "memory")
        predict_list(config, test, predictor, run.folder / kind)
        scores = evaluate_folder(
            run.predictions(kind),
            data_list=data.test_data_list,
            data_dir=data.data_dir,
            num_classes=data.num_classes,
            classes=data.class_names or None,
            progress=False,
        )
        found[figure] = round(100 * float(scores.mean_iou), 2)
    return found


def summary(result: dict[str, Any]) -> str:
    """The table of a comparison, in per cent."""
    rows = []
    for method, found in result.items():
        if not isinstance(found, dict):
            continue
        cells = []
        for figure in PREDICTORS.values():
            spread = found.get(f"{figure}_std")
            cells.append(f"{found[figure]:.1f}" + (f" +- {spread:.1f}" if spread is not None else ""))
        rows.append((method.replace("_", " "), *cells, f"{found['training_seconds']:.0f}"))
    return table(rows, ("method", "mIoU, classifier", "mIoU, retrieval", "training s"))
