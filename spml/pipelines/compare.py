"""Methods beside each other: the same network, data, crops, steps and test settings, one table, one report."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import torch

from spml.device import resolve_device
from spml.errors import UserError
from spml.files import write_json
from spml.pipelines.compare_report import write_report
from spml.pipelines.compared_run import ComparedRun, Guard, forget_lists, pooled_mean_iou
from spml.pipelines.comparison import Comparison, Row
from spml.pipelines.methods import DEFAULT, described, find_methods, read_methods
from spml.pipelines.result import Found, collect
from spml.pipelines.side_by_side import Failure, Outcome, run_jobs

RESULT = "result.json"


def compare(
    config: str | Path,
    folder: str | Path,
    seeds: Sequence[int] = (0,),
    methods: Sequence[str] = DEFAULT,
    overrides: Sequence[str] = (),
    device: str | torch.device = "auto",
    guard: Guard = nullcontext,
    *,
    annotations: Mapping[str, str] | None = None,
    masks: str | None = None,
    tries: int = 1,
    predictor: str = "softmax",
    folds: int = 1,
    processes: int = 1,
    methods_file: str | Path | None = None,
    command: str = "",
    dry: bool = False,
) -> dict[str, Any]:
    """Train and evaluate each method on each annotation with each seed; write `result.json`, a table and a report.

    With `tries` above 1, each method's setting is chosen first: the training list is split, every tried setting learns
    from `fit`, and the best mIoU on `dev` wins; with `folds`, the best on the devs of all folds together. Then all
    learn from the whole list, and dataset.test_data_list is read. It skips finished runs and continues interrupted
    ones. A run that fails is one line, and the others go on.

    Args:
        config: a file, or a shipped config's name.
        folder: gets `<annotation>/<method>/seed<i>/`, `result.json`, `report.md` and `report.html`.
        methods: names of `spml.pipelines.methods.METHODS`, or sums such as `spml+gated_crf`.
        overrides: `key=value` of the config, for all runs.
        guard: a context around each training that yields an event. Once the event is set, training saves and ends.
        annotations, masks, tries, predictor, folds: see `Comparison`.
        processes: runs side by side.
        methods_file: a YAML file of more methods; see `read_methods`.
        command: the command line, for the report.
        dry: print what would run, and run nothing.

    Returns:
        See `collect`; nothing after `dry`.

    Raises:
        KeyboardInterrupt: the event was set and training has saved a snapshot; the same call continues from there.
        UserError: a config or data that cannot be used; a folder that holds the result of another config.
    """
    if isinstance(seeds, int) or isinstance(methods, str):
        raise UserError(f"seeds, methods: expected lists, such as [0, 1] and ['spml'], got {seeds!r} and {methods!r}")
    if annotations is not None and not isinstance(annotations, Mapping):
        raise UserError(f"annotations: expected name -> list, such as {{'point': 'points.txt'}}, got {annotations!r}")
    chosen = find_methods(methods, tries, read_methods(methods_file) if methods_file else None)
    given = (annotations or {}, masks, tries, predictor, folds)
    plan = Comparison(config, Path(folder), chosen, seeds, overrides, *given)
    device = resolve_device(device) if isinstance(device, str) else device
    plan.check_lists()
    if dry:
        print("\n".join(described_plan(plan)))
        return {}
    forget_lists()
    rows = run_comparison(plan, device, guard, processes)
    result = collect(rows)
    write_json(plan.folder / RESULT, result)
    write_report(plan, rows, device, processes=processes, command=command)
    return result


def described_plan(plan: Comparison) -> list[str]:
    """A line for each row with its settings, and one with the number of runs. It checks every setting's config."""
    lines = []
    for row in plan.rows:
        for number, _ in enumerate(plan.tried(row)):
            plan.run(row, plan.seeds[0], number)
        lines.append(f"{row.key}: {' | '.join(map(described, plan.tried(row)))}")
    tried = len(plan.rows) * plan.tries * plan.folds if plan.tries > 1 else 0
    seeds = ", ".join(map(str, plan.seeds))
    return [*lines, f"{tried} runs on dev, and {len(plan.rows) * len(plan.seeds)} runs of the result (seeds {seeds})"]


def run_comparison(plan: Comparison, device: torch.device, guard: Guard, processes: int) -> list[Found]:
    """Run all jobs of a comparison, in three rounds: spread labels, runs on dev, runs of the result."""
    rows = [Found(row) for row in plan.rows]
    spread(plan, rows, device, guard, processes)
    if plan.tries > 1:
        choose(plan, rows, device, guard, processes)
    jobs = [(one, plan.run(one.row, seed, one.setting)) for seed in plan.seeds for one in rows if one.ready]
    for one, run, outcome in _outcomes(jobs, device, guard, processes):
        if isinstance(outcome, Failure):
            one.failed.append(f"{run.title}: {outcome.line}")
        else:
            one.runs.append(run)
            one.outcomes.append(outcome)
    return rows


def spread(plan: Comparison, rows: Sequence[Found], device: torch.device, guard: Guard, processes: int) -> None:
    """Make the spread labels that methods train on; a row whose labels fail is not ready."""
    jobs = [(one, job) for one in rows for job in plan.spread_labels(one.row)]
    shared = {job.folder: (one, job) for one, job in jobs}
    failed = {
        job.folder: outcome.line
        for _, job, outcome in _outcomes(list(shared.values()), device, guard, processes)
        if isinstance(outcome, Failure)
    }
    for one, job in jobs:
        if job.folder in failed:
            one.failed.append(f"{job.title}: {failed[job.folder]}")
            one.ready = False


def choose(plan: Comparison, rows: Sequence[Found], device: torch.device, guard: Guard, processes: int) -> None:
    """Try the settings of each row on dev; the best, the first of equals, is the row's. Without any it is not ready."""
    tried = list(product(range(plan.tries), range(plan.folds)))
    jobs = [(one, plan.run_on_dev(one.row, number, fold)) for one in rows if one.ready for number, fold in tried]
    finished = defaultdict[tuple[str, int], list[ComparedRun]](list)
    for one, run, outcome in _outcomes(jobs, device, guard, processes):
        if isinstance(outcome, Failure):
            one.failed.append(f"{run.title}: {outcome.line}")
            continue
        runs = finished[one.row.key, run.setting]
        runs.append(run)
        if len(runs) == plan.folds:
            one.dev[run.setting] = pooled_mean_iou(runs, plan.predictor)
    for one in rows:
        one.ready = bool(one.dev)
        one.setting = max(one.dev, key=lambda number: (one.dev[number], -number), default=0)


def _outcomes(
    jobs: Sequence[tuple[Found, Any]], device: torch.device, guard: Guard, processes: int
) -> Iterator[tuple[Found, Any, Outcome]]:
    outcomes = run_jobs([job for _, job in jobs], device, guard, processes)
    for (one, job), outcome in zip(jobs, outcomes, strict=True):
        yield one, job, outcome


def plan_runs(
    config: str | Path,
    folder: str | Path,
    seeds: Sequence[int],
    overrides: Sequence[str] = (),
    methods: Sequence[str] = DEFAULT,
) -> list[ComparedRun]:
    """Return the runs of a comparison without a search, seed by seed, without starting any. Raises UserError."""
    plan = Comparison(config, Path(folder), find_methods(methods), seeds, overrides)
    return [plan.run(row, seed) for seed in seeds for row in plan.rows]


def compare_runs(runs: Sequence[ComparedRun], device: torch.device, guard: Guard = nullcontext) -> dict[str, Any]:
    """Train and evaluate the runs of `plan_runs` that are not finished yet; see `collect`.

    Raises:
        UserError: a run that failed, as well.
    """
    forget_lists()
    rows = {run.row: Found(Row(run.annotation, run.method, find_methods([run.method])[run.method])) for run in runs}
    for run, outcome in zip(runs, run_jobs(runs, device, guard), strict=True):
        if isinstance(outcome, Failure):
            raise UserError(f"{run.title}: {outcome.line}")
        rows[run.row].runs.append(run)
        rows[run.row].outcomes.append(outcome)
    return collect(list(rows.values()))
