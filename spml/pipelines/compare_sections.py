"""The parts of a comparison's report without pictures: table, settings, curves, classes, confusion."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from spml.pipelines.compared_run import PREDICTORS, READ_OUT
from spml.pipelines.comparison import CHOICE_SEED, DEV, FIT, Comparison
from spml.pipelines.curve import read_curve
from spml.pipelines.methods import described
from spml.pipelines.result import Found, training_seconds
from spml.visualize.class_tables import class_bars, confusion_table
from spml.visualize.html import Html, table, tag
from spml.visualize.svg import Curve, dot_chart, line_chart


def choice(plan: Comparison, rows: Sequence[Found]) -> str:
    """The sentences on what chose the settings."""
    if plan.tries == 1:
        return (
            "Nothing was chosen here: every method has the first setting of its grid. This report does not know on "
            "what the config itself was chosen."
        )
    row = rows[0].row
    dev, fit = (_count(plan.part(row, part)) for part in (DEV, FIT))
    masks = "their masks" if plan.masks else "their annotated pixels alone"
    if plan.folds == 1:
        won, parts = "dev", f"dev has {dev} images, every sixth of the training list, judged by {masks}"
        learned = f"the other {fit}"
    else:
        won = f"all {dev + fit} training images"
        parts = f"Each image is in one of {plan.folds} folds and is judged by {masks}"
        learned = "the images outside of the fold"
    return (
        f"{plan.tries} settings were tried for each method, and the best mIoU of the {READ_OUT[plan.predictor]} on "
        f"{won} won. {parts}; the trials learned from {learned} with seed {CHOICE_SEED}. Then all methods learned from "
        "the whole list, and the test list was read."
    )


def _count(path: str) -> int:
    return sum(bool(line.strip()) for line in Path(path).read_text(encoding="utf-8-sig").split("\n"))


def cell(one: Found, figure: str) -> str:
    """Mean and, of several seeds, deviation and values."""
    values = [outcome[figure] for outcome in one.outcomes]
    if not values:
        return "failed"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    listed = ", ".join(f"{value:.1f}" for value in values)
    return f"{statistics.mean(values):.1f} +- {statistics.stdev(values):.1f} ({listed})"


def minutes(one: Found) -> str:
    """The time of a training, mean over seeds."""
    seconds = training_seconds(one)
    return "-" if seconds is None else f"{seconds / 60:.1f}"


def memory(one: Found) -> str:
    """The most memory of a training, in MB: of the GPU, or of the process."""
    known = [outcome["training_memory_mb"] for outcome in one.outcomes if outcome.get("training_memory_mb")]
    return f"{max(known)}" if known else "-"


def header() -> list[str]:
    """The titles of the table's columns."""
    return ["method", *(f"mIoU, {name}" for name in READ_OUT.values()), "minutes a training", "memory, MB", "setting"]


def markdown_table(rows: Sequence[Found]) -> str:
    """The table as Markdown, the best of each annotation's column in bold."""
    lines = [header(), ["---"] * len(header())]
    for one in rows:
        cells = [f"**{cell(one, f)}**" if _is_best(one, rows, f) else cell(one, f) for f in PREDICTORS.values()]
        setting = described(one.row.method.grid[one.setting])
        lines.append([one.row.key, *cells, minutes(one), memory(one), setting])
    return "\n".join("| " + " | ".join(part.replace("|", "\\|") for part in line) + " |" for line in lines)


def _is_best(one: Found, rows: Sequence[Found], figure: str) -> bool:
    """Whether no row of the same annotation has a higher mean; full masks stand outside."""
    if one.row.method.labels == "masks":
        return False
    means = {
        other.row.key: statistics.mean(outcome[figure] for outcome in other.outcomes)
        for other in rows
        if other.outcomes and other.row.annotation == one.row.annotation and other.row.method.labels != "masks"
    }
    return len(means) > 1 and means.get(one.row.key) == max(means.values())


def _html_table(rows: Sequence[Found]) -> Html:
    lines = []
    for one in rows:
        cells: list[object] = []
        for figure in PREDICTORS.values():
            main, bracket, values = cell(one, figure).partition(" (")
            mean = tag("b", main) if _is_best(one, rows, figure) else main
            cells.append(tag("td", mean, tag("small", values.rstrip(")")) if bracket else ""))
        name = tag("td", one.row.key, tag("small", one.row.method.help)) if one.row.method.help else one.row.key
        lines.append([name, *cells, minutes(one), memory(one), described(one.row.method.grid[one.setting])])
    return table(header(), lines, text=(5,))


def result(rows: Sequence[Found], failed: Sequence[str]) -> Html:
    """The table, a chart of each read-out, and the runs that failed."""
    charts: list[object] = []
    for figure, name in zip(PREDICTORS.values(), READ_OUT.values(), strict=True):
        bars = [(one.row.key, [outcome[figure] for outcome in one.outcomes]) for one in rows if one.outcomes]
        if bars:
            charts += [tag("h3", name.capitalize()), dot_chart(bars, "mIoU, %")]
    problems = [tag("h3", "Failed"), tag("ul", *(tag("li", line) for line in failed))] if failed else []
    return tag("div", _html_table(rows), *charts, *problems)


def settings(plan: Comparison, rows: Sequence[Found]) -> Html:
    """Every tried setting of every row with its figure on dev, and what each row trained by."""
    same = " ".join(plan.overrides)
    parts = [tag("p", f"{choice(plan, rows)}{f' Overrides for all: {same}' if same else ''}", class_="note")]
    lines = []
    for one in rows if plan.tries > 1 else ():
        for number, setting in enumerate(plan.tried(one.row)):
            value = f"{one.dev[number]:.1f}" if number in one.dev else "failed"
            cells = (described(setting), value)
            chosen = number == one.setting and one.ready
            lines.append([one.row.key, *(tag("b", text) if chosen else text for text in cells)])
    if lines:
        parts.append(table(["method", "setting", "mIoU on dev"], lines, text=(1,)))
    trained = [[one.row.key, f"{one.runs[0].config.train.base_lr:g}", _losses(one)] for one in rows if one.runs]
    parts += [tag("h3", "In the end"), table(["method", "base_lr", "losses and their weights"], trained, text=(2,))]
    return tag("div", *parts)


def _losses(one: Found) -> str:
    """`cross_entropy 1, kernel_cut 1 (crf_weight 1e-07, cut_weight 0.1)`: every weight of the losses of a row."""
    told = []
    for name, given in one.runs[0].config.losses.items():
        inner = [f"{key} {value:.3g}" for key, value in given.items() if key.endswith("_weight")]
        told.append(f"{name} {given['weight']:.3g}" + (f" ({', '.join(inner)})" if inner else ""))
    return ", ".join(told)


CHARTS = {  # key of a curve's points -> heading, factor
    "cross_entropy": ("Cross-entropy on the labelled pixels", 1.0),
    "total": ("Total loss, a sum of other terms for each method", 1.0),
    "validation_mean_iou": ("mIoU of the classifier on the test list, which chose nothing", 100.0),
}


def curves(rows: Sequence[Found]) -> Html:
    """A chart of each of CHARTS that the runs have."""
    parts: list[object] = []
    for name, (heading, factor) in CHARTS.items():
        found = [curve for one in rows for curve in _mean_curve(one, name, factor)]
        if found:
            parts += [tag("h3", heading), line_chart(found, "step", name)]
    note = "Means over the steps between two points, and over seeds."
    return tag("div", tag("p", note, class_="note"), *parts)


def _mean_curve(one: Found, name: str, factor: float) -> list[Curve]:
    """The curve of a row, the mean over seeds at the steps that all of them have; none where there is none."""
    of_runs = [{point["step"]: point[name] for point in read_curve(run.folder) if name in point} for run in one.runs]
    steps = sorted(set.intersection(*(set(curve) for curve in of_runs)))
    points = [(step + 1, factor * statistics.mean(curve[step] for curve in of_runs)) for step in steps]
    return [Curve(one.row.key, points)] if points else []


def _over_read_outs(draw: Callable[[str], Sequence[Html]]) -> Html:
    parts: list[object] = []
    for kind, name in READ_OUT.items():
        parts += [tag("h3", name.capitalize()), *draw(kind)]
    return tag("div", *parts)


def classes(rows: Sequence[Found], names: Sequence[str]) -> Html:
    """The IoU of each class under each method, by each read-out."""

    def draw(kind: str) -> list[Html]:
        columns = [_mean_iou(one, kind) for one in rows]
        return [class_bars(names, [one.row.key for one in rows], columns)]

    return _over_read_outs(draw)


def _mean_iou(one: Found, kind: str) -> list[float | None]:
    """The IoU of each class, the mean over the seeds where it occurs."""
    found = []
    for values in zip(*(outcome["iou"][kind] for outcome in one.outcomes), strict=True):
        given = [value for value in values if value is not None]
        found.append(statistics.mean(given) if given else None)
    return found


def confusion(rows: Sequence[Found], names: Sequence[str]) -> Html:
    """The confusion matrix of each row by each read-out, folded but for the first."""
    note = "Each row: a true class, and to which classes its pixels went, per cent, over all seeds."

    def draw(kind: str) -> list[Html]:
        parts = []
        for number, one in enumerate(rows):
            counts = np.sum([run.counts(kind) for run in one.runs], axis=0)
            opened = "open" if number == 0 and kind == next(iter(READ_OUT)) else None
            parts.append(tag("details", tag("summary", one.row.key), confusion_table(counts, names), open=opened))
        return parts

    return tag("div", tag("p", note, class_="note"), _over_read_outs(draw))
