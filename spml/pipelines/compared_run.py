"""One run of a comparison: training, predictions by both read-outs, and their figures."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import parent_process
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO

import numpy as np
import torch

from spml import records
from spml.data.lists import read_list
from spml.data.samples import Sample
from spml.engine.record import NEUTRAL, check_settings
from spml.engine.run import train
from spml.errors import UserError
from spml.evaluation.folders import Evaluation, evaluate_folder
from spml.evaluation.iou import ConfusionMatrix
from spml.files import read_json, write_atomically, write_json
from spml.inference.memory import fill_memory
from spml.inference.predictors import build_predictor, load_models, predict_list
from spml.inference.segmenter import Segmenter
from spml.inference.views import ViewPlan
from spml.pipelines.curve import Curve, training_seconds

PREDICTORS = {"softmax": "mean_iou", "retrieval": "retrieval_mean_iou"}  # and the name of their figure
READ_OUT = {"softmax": "classifier", "retrieval": "retrieval"}  # what the tables call them
OUTCOME = "outcome.json"
REMEDY = "expected the same settings and data, or another --save_dir"

Guard = Callable[[], AbstractContextManager[Event | None]]


@dataclass(frozen=True)
class ComparedRun:
    """One method with one seed: its config and the folder that holds all of it.

    Args:
        annotation: the name of the training list; "" for the config's own.
        setting: its place in the method's grid.
        full_masks: whether the training list holds full masks; the memory's record says so.
        tried: a run that helps to choose a setting: the read-out that chooses, "softmax" or "retrieval", which is the
            only one evaluated. "": a run for the result.
        fold: of such a run, the name of the fold that judges it; "" where one dev does.
    """

    method: str
    seed: int
    config: Any
    folder: Path
    annotation: str = ""
    setting: int = 0
    full_masks: bool = False
    tried: str = ""
    fold: str = ""

    @property
    def row(self) -> str:
        """The row of the result that it belongs to: `spml`, or `point/spml`."""
        return f"{self.annotation}/{self.method}" if self.annotation else self.method

    @property
    def title(self) -> str:
        """What a line about it begins with."""
        if self.tried:
            return f"{self.row}, setting {self.setting} on {self.fold or 'dev'}"
        return f"{self.row}, seed {self.seed}"

    @property
    def snapshot(self) -> Path:
        """The model after the last step."""
        return self.folder / f"model-{self.config.train.max_iteration - 1}.pth"

    @property
    def result(self) -> Path:
        """The folder of its figures, with a record of its own."""
        return self.folder / "figures"

    @property
    def read_outs(self) -> tuple[str, ...]:
        """Which predictors are evaluated."""
        return (self.tried,) if self.tried else tuple(PREDICTORS)

    def predictions(self, predictor: str) -> Path:
        """Where the label images of "softmax" or "retrieval" are."""
        return self.folder / predictor / "semantic_gray"

    def counts(self, predictor: str) -> np.ndarray:
        """The pixels by target and prediction, (K, K + 1) int64, of a finished run."""
        return np.load(self.result / f"{predictor}.npy", allow_pickle=False)

    def samples(self, use: str) -> Sequence[Sample]:
        """The list that it trains on ("train"), or is evaluated on ("test")."""
        return read_list(self.config.dataset[f"{use}_data_list"], self.config.dataset.data_dir, columns=2)

    def finished(self) -> dict[str, Any] | None:
        """The figures of an earlier call, or None. It writes the record of the figures to come.

        Raises:
            UserError: lists that cannot be read; a folder that holds figures of another config or other data.
        """
        check_settings(self.config, self.folder, REMEDY)
        if records.start(self.result, _record(self), made=(OUTCOME,), remedy=REMEDY):
            return read_json(self.result / OUTCOME, "the figures of a comparison")
        return None

    def run(self, device: torch.device, guard: Guard = nullcontext) -> dict[str, Any]:
        """Train, fill a memory from the weak labels, predict and evaluate; or read the figures of an earlier call.

        Returns:
            The mIoU of each read-out in per cent under its name in PREDICTORS; `iou` of each read-out's classes;
            `training_seconds`, `seconds` of this call, and `training_memory_mb`, see `peak_memory`.

        Raises:
            KeyboardInterrupt: the guard's event was set, and training has saved.
            UserError: data or a config that cannot be used, a loss that is not finite.
        """
        return self.finished() or _run(self, device, guard)


def _run(run: ComparedRun, device: torch.device, guard: Guard) -> dict[str, Any]:
    begin = time.monotonic()
    print(f"{run.title}: {run.folder}", flush=True)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    curve = Curve(run.folder, run.config.train.max_iteration)
    with guard() as stop:
        finished = train(run.config, run.folder, callbacks=[curve], stop=stop, device=device, resume=True).finished
    if not finished:
        raise KeyboardInterrupt
    outcome = {"training_seconds": training_seconds(run.folder), "training_memory_mb": peak_memory(device)}
    outcome |= evaluate(run, device)
    outcome["seconds"] = round(time.monotonic() - begin, 1)
    write_json(run.result / OUTCOME, outcome)
    records.finish(run.result)
    return outcome


def peak_memory(device: torch.device) -> int | None:
    """The most memory that a training took, in MB, right after it; None where nothing tells it.

    Of a GPU that which torch allocated; on the CPU that of the whole process, if the process is this run's alone.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    if parent_process() is None or sys.platform != "linux":
        return None
    import resource  # Unix has it

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


def evaluate(run: ComparedRun, device: torch.device) -> dict[str, Any]:
    """Predict the test list by each read-out, write its confusion matrix, and return mIoU and IoU in per cent."""
    config, plan, found = run.config, ViewPlan.from_config(run.config), dict[str, Any]()
    found["iou"] = {}
    memory = run.folder / "memory"
    if "retrieval" in run.read_outs:
        model, _ = load_models(config, run.snapshot, device, with_classifier=False)
        segmenter = Segmenter.from_config(config, model, plan, device)
        fill_memory(config, run.samples("train"), segmenter, memory, full_masks=run.full_masks)
    for kind in run.read_outs:
        predictor = build_predictor(config, kind, run.snapshot, plan, device, memory)
        predict_list(config, run.samples("test"), predictor, run.folder / kind)
        scores = scores_of(run, kind)
        if np.isnan(scores.mean_iou):
            raise UserError(f"{config.dataset.test_data_list}: expected labels with pixels of a class, found none")
        found[PREDICTORS[kind]] = round(100 * float(scores.mean_iou), 2)
        found["iou"][kind] = [None if np.isnan(share) else round(100 * float(share), 2) for share in scores.iou]
        path = run.result / f"{kind}.npy"
        write_atomically(path, partial(_save_counts, scores))
    return found


def _save_counts(scores: Evaluation, file: BinaryIO) -> None:
    assert scores.counts is not None
    np.save(file, scores.counts, allow_pickle=False)


def pooled_mean_iou(runs: Sequence[ComparedRun], predictor: str) -> float:
    """mIoU of the test images of finished runs together, per cent."""
    matrix = ConfusionMatrix(runs[0].config.dataset.num_classes)
    matrix.counts = np.sum([run.counts(predictor) for run in runs], axis=0)
    return round(100 * matrix.mean_iou(), 2)


def scores_of(run: ComparedRun, kind: str) -> Evaluation:
    """The evaluation of a read-out's predictions on the test list."""
    data = run.config.dataset
    return evaluate_folder(
        run.predictions(kind),
        data_list=data.test_data_list,
        data_dir=data.data_dir,
        num_classes=data.num_classes,
        classes=data.class_names or None,
        progress=False,
    )


def _record(run: ComparedRun) -> records.Record:
    """What the figures depend on: the config without paths and other stages, and the contents of both lists."""
    settings: dict[str, Any] = {
        name: {key: value for key, value in section.items() if key not in NEUTRAL.get(name, ())}
        for name, section in run.config.items()
        if isinstance(section, dict) and name not in ("pipeline", "expected")
    }
    settings["test"].pop("cam_alpha")
    if run.tried:
        settings["tried"] = run.tried
    data = run.config.dataset
    contents = {use: _contents(str(data[f"{use}_data_list"]), str(data.data_dir)) for use in ("train", "test")}
    return records.Record("figures of a comparison", settings=settings, contents=contents)


@lru_cache(maxsize=64)
def _contents(data_list: str, data_dir: str) -> str:
    """A hash of the names and contents of the files of a list. Many runs of a comparison share a list."""
    samples = read_list(data_list, data_dir, columns=2)
    return records.hash_files(
        part for one in samples for part in (one.image, one.label, one.regions) if part is not None
    )


def forget_lists() -> None:
    """Read lists anew from now on: between two comparisons of one process the user may have changed them."""
    _contents.cache_clear()
