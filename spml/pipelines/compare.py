"""SPML beside its baseline, partial cross-entropy, on the same network, data, steps and seeds."""

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spml import records
from spml.config import load_config
from spml.data.lists import read_list
from spml.data.samples import Sample
from spml.device import resolve_device
from spml.engine.record import NEUTRAL
from spml.engine.run import train
from spml.errors import UserError
from spml.evaluation.folders import evaluate_folder
from spml.files import read_json, write_json
from spml.inference.memory import fill_memory
from spml.inference.predictors import build_predictor, load_models, predict_list
from spml.inference.segmenter import Segmenter
from spml.inference.views import ViewPlan
from spml.visualize.report import table

BASELINE = ("train.task=segmentation", "losses=none", "losses.cross_entropy.weight=1")
METHODS: dict[str, tuple[str, ...]] = {"spml": (), "partial_cross_entropy": BASELINE}
PREDICTORS = {"softmax": "mean_iou", "retrieval": "retrieval_mean_iou"}  # and the name of their figure
OUTCOME = "outcome.json"

Guard = Callable[[], AbstractContextManager[threading.Event | None]]


@dataclass(frozen=True)
class ComparedRun:
    """One method with one seed: its config and the folder that holds all of it."""

    method: str
    seed: int
    config: Any
    folder: Path

    @property
    def snapshot(self) -> Path:
        """The model after the last step."""
        return self.folder / f"model-{self.config.train.max_iteration - 1}.pth"

    @property
    def result(self) -> Path:
        """The folder of its figures, with a record of its own."""
        return self.folder / "result"

    def predictions(self, predictor: str) -> Path:
        """Where the label images of "softmax" or "retrieval" are."""
        return self.folder / predictor / "semantic_gray"


def compare(
    config: str | Path,
    folder: str | Path,
    seeds: Sequence[int] = (0,),
    methods: Sequence[str] = tuple(METHODS),
    overrides: Sequence[str] = (),
    device: str | torch.device = "auto",
    guard: Guard = nullcontext,
) -> dict[str, Any]:
    """Train and evaluate each method with each seed on dataset.test_data_list, and write `result.json`.

    It skips finished runs and continues interrupted ones.

    Args:
        config: a file, or a shipped config's name.
        folder: gets `<method>/seed<i>/` and the result.
        methods: names of METHODS.
        overrides: `key=value` of the config, for all runs.
        guard: a context around each training that yields an event. Once the event is set, training saves and ends.

    Returns:
        See `compare_runs`.

    Raises:
        KeyboardInterrupt: the event was set and training has saved a snapshot; the same call continues from there.
        UserError: a config or data that cannot be used; a folder that holds the result of another config.
    """
    runs = plan_runs(config, folder, seeds, overrides, methods)
    result = compare_runs(runs, resolve_device(device) if isinstance(device, str) else device, guard)
    write_json(Path(folder) / "result.json", result)
    return result


def plan_runs(
    config: str | Path,
    folder: str | Path,
    seeds: Sequence[int],
    overrides: Sequence[str] = (),
    methods: Sequence[str] = tuple(METHODS),
) -> list[ComparedRun]:
    """Return the runs of a comparison, seed by seed, without starting any. Raises UserError for another method."""
    for method in methods:
        if method not in METHODS:
            raise UserError(f"--methods: expected names out of {', '.join(METHODS)}, got {method!r}")
    runs = []
    for seed in seeds:
        for method in methods:
            loaded = load_config(config, [*overrides, *METHODS[method], f"train.seed={seed}"])
            runs.append(ComparedRun(method, seed, loaded, Path(folder) / method / f"seed{seed}"))
    return runs


def compare_runs(runs: Sequence[ComparedRun], device: torch.device, guard: Guard = nullcontext) -> dict[str, Any]:
    """Train and evaluate every run that is not finished yet.

    Returns:
        For each method `mean_iou` (the classifier's, mean over seeds, per cent, on dataset.test_data_list),
        `retrieval_mean_iou`, the same for each seed, their standard deviations over seeds where there are several,
        and `training_seconds`; `seconds` of all.
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


def run_once(run: ComparedRun, device: torch.device, guard: Guard = nullcontext) -> dict[str, Any]:
    """Train, fill a memory from the weak labels, predict and evaluate both ways; or read earlier figures."""
    weak, test = (_samples(run.config, use) for use in ("train", "test"))
    if records.start(run.result, _record(run.config, weak, test), made=(OUTCOME,)):
        return read_json(run.result / OUTCOME, "the figures of a comparison")
    begin = time.monotonic()
    print(f"{run.method}, seed {run.seed}: {run.folder}")
    with guard() as stop:
        finished = train(run.config, run.folder, stop=stop, device=device, resume=True).finished
    if not finished:
        raise KeyboardInterrupt
    trained = time.monotonic()
    outcome = {**evaluate(run, device, weak, test), "training_seconds": round(trained - begin, 1)}
    outcome["seconds"] = round(time.monotonic() - begin, 1)
    write_json(run.result / OUTCOME, outcome)
    records.finish(run.result)
    return outcome


def _samples(config: Any, use: str) -> list[Sample]:
    return read_list(config.dataset[f"{use}_data_list"], config.dataset.data_dir, columns=2)


def _record(config: Any, weak: Sequence[Sample], test: Sequence[Sample]) -> records.Record:
    """What the figures depend on: the config except paths, and the contents of both lists."""
    settings = {
        name: {key: value for key, value in section.items() if key not in NEUTRAL.get(name, ())}
        for name, section in config.items()
        if isinstance(section, dict)
    }
    settings.pop("expected", None)
    contents = {}
    for name, samples in (("train", weak), ("test", test)):
        parts = (part for one in samples for part in (one.image, one.label, one.regions) if part is not None)
        contents[name] = records.hash_files(parts)
    return records.Record("figures of a comparison", settings=settings, contents=contents)


def evaluate(
    run: ComparedRun, device: torch.device, weak: Sequence[Sample], test: Sequence[Sample]
) -> dict[str, float]:
    """Predict the test list by classifier and by retrieval, and return both mean IoUs in per cent."""
    config, data, plan = run.config, run.config.dataset, ViewPlan.from_config(run.config)
    model, _ = load_models(config, run.snapshot, device, with_classifier=False)
    fill_memory(config, weak, Segmenter.from_config(config, model, plan, device), run.folder / "memory")
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
