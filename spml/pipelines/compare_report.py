"""The report of a comparison: a Markdown table, and one HTML page that needs no other file and no network."""

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import torch

from spml.classes import class_names
from spml.files import write_atomically
from spml.pipelines.compare_gallery import gallery, retrieval_section
from spml.pipelines.compared_run import PREDICTORS, READ_OUT
from spml.pipelines.comparison import CHOICE_SEED, DEV, FIT, Comparison
from spml.pipelines.curve import read_curve
from spml.pipelines.methods import Setting
from spml.pipelines.result import Found, training_seconds
from spml.visualize.class_tables import class_bars, confusion_table
from spml.visualize.html import Html, join, page, table, tag
from spml.visualize.svg import Curve, dot_chart, line_chart

REPORT, MARKDOWN = "report.html", "report.md"
CPUINFO = Path("/proc/cpuinfo")


def write_report(
    plan: Comparison, rows: Sequence[Found], device: torch.device, *, processes: int = 1, command: str = ""
) -> None:
    """Write `report.md` and `report.html` into the folder of a comparison.

    Args:
        processes, command: what the caption says of how it ran.

    Raises:
        UserError: files of a run that are missing.
    """
    lines = caption(plan, rows, device, processes, command)
    title = f"Comparison: {Path(plan.config).stem}"
    text = f"# {title}\n\n{markdown_table(rows)}\n\n" + "".join(f"*{line}*\n\n" for line in lines)
    failed = [line for one in rows for line in one.failed]
    text += "".join(f"- failed: {line}\n" for line in failed)
    write_atomically(plan.folder / MARKDOWN, lambda file: file.write(text.encode()))
    lead = tag("div", *(tag("p", line) for line in lines[:2]), tag("p", join(_breaks(lines[2:])), class_="note"))
    html = page(title, _sections(plan, rows, device, failed), lead)
    write_atomically(plan.folder / REPORT, lambda file: file.write(html.encode()))


def _breaks(lines: Sequence[str]) -> list[object]:
    return [part for line in lines for part in (line, Html("<br>"))][:-1]


# what the caption says


def caption(plan: Comparison, rows: Sequence[Found], device: torch.device, processes: int, command: str) -> list[str]:
    """Sentences: what the figures are of, what chose the settings, how it ran, the command."""
    data, seeds = plan.plain.dataset, ", ".join(map(str, plan.seeds))
    spread = " +- standard deviation (values)" if len(plan.seeds) > 1 else ""
    images = next((len(one.runs[0].samples("test")) for one in rows if one.runs), 0)
    lists = ", ".join(f"{name}: {Path(path).name}" for name, path in plan.annotations.items())
    of = (
        f"mIoU in per cent{spread} on the {images} images of {Path(data.test_data_list).name}; "
        f"{'seeds' if len(plan.seeds) > 1 else 'seed'} {seeds}; training lists: "
        f"{lists or Path(data.train_data_list).name}; {plan.plain.train.max_iteration} steps of "
        f"{plan.plain.train.batch_size} images. All rows share network, data, crops, steps and test settings."
    )
    how = f"{hardware(device)}, {date.today():%Y-%m-%d}; {_side_by_side(processes)}"
    return [of, choice(plan, rows), how, *([f"Command: {command}"] if command else [])]


def choice(plan: Comparison, rows: Sequence[Found]) -> str:
    """The sentences on what chose the settings."""
    if plan.tries == 1:
        return (
            "Nothing was chosen here: every method has the first setting of its grid. What the config itself was chosen "
            "on, this report does not know."
        )
    row = rows[0].row
    dev, fit = (_count(plan.part(row, part)) for part in (DEV, FIT))
    masks = "their masks" if plan.masks else "their annotated pixels alone"
    return (
        f"{plan.tries} settings were tried for each method, and the best mIoU of the {READ_OUT[plan.predictor]} on dev "
        f"chose: {dev} images, every sixth of the training list, by {masks}, after training on the other {fit} with "
        f"seed {CHOICE_SEED}. Then all methods learned from the whole list, and the test list was read."
    )


def _count(path: str) -> int:
    return sum(bool(line.strip()) for line in Path(path).read_text(encoding="utf-8-sig").split("\n"))


def hardware(device: torch.device) -> str:
    """The processor, and the GPU if it computes."""
    lines = CPUINFO.read_text(errors="replace").splitlines() if CPUINFO.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    cores = f"{os.cpu_count()} cores of {model or platform.processor() or platform.machine()}"
    return f"{torch.cuda.get_device_name(device)}, {cores}" if device.type == "cuda" else cores


def _side_by_side(processes: int) -> str:
    return "one run at a time" if processes == 1 else f"{processes} runs side by side, which makes each slower"


# the table


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


def described(setting: Setting) -> str:
    """A setting in words: `base_lr*=2`, or `default`."""
    return " ".join(word.removeprefix("train.").removeprefix("losses.") for word in setting) or "default"


def header() -> list[str]:
    """The titles of the table's columns."""
    return ["method", *(f"mIoU, {name}" for name in READ_OUT.values()), "minutes a training", "setting"]


def markdown_table(rows: Sequence[Found]) -> str:
    """The table as Markdown, the best of each annotation's column in bold."""
    lines = [header(), ["---"] * len(header())]
    for one in rows:
        cells = [f"**{cell(one, f)}**" if _is_best(one, rows, f) else cell(one, f) for f in PREDICTORS.values()]
        setting = described(one.row.method.grid[one.setting])
        lines.append([one.row.key, *cells, minutes(one), setting])
    return "\n".join("| " + " | ".join(part.replace("|", "\\|") for part in line) + " |" for line in lines)


def _is_best(one: Found, rows: Sequence[Found], figure: str) -> bool:
    """Whether no row of the same annotation has a higher mean."""
    means = {
        other.row.key: statistics.mean(outcome[figure] for outcome in other.outcomes)
        for other in rows
        if other.outcomes and other.row.annotation == one.row.annotation
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
        lines.append([name, *cells, minutes(one), described(one.row.method.grid[one.setting])])
    return table(header(), lines, text=(4,))


# the sections of the page


def _sections(
    plan: Comparison, rows: Sequence[Found], device: torch.device, failed: Sequence[str]
) -> list[tuple[str, Html]]:
    parts = [("Result", _result(rows, failed)), ("Settings", _settings(plan, rows))]
    done = [one for one in rows if one.runs]
    if not done:
        return parts
    names = plan.plain.dataset.class_names or class_names(
        plan.plain.dataset.num_classes, None, plan.plain.dataset.dataset
    )
    parts.append(("Curves", _curves(done)))
    parts.append(("Classes", _classes(done, names)))
    parts.append(("Confusion", _confusion(done, names)))
    parts.append(("Images", gallery(done, plan.predictor, names)))
    embedded = {one.row.annotation: one.runs[0] for one in reversed(done) if one.runs[0].config.train.task == "spml"}
    found = [retrieval_section(run, device, names) for run in reversed(embedded.values())]
    return [*parts, ("Contextual retrieval", tag("div", *found))] if found else parts


def _result(rows: Sequence[Found], failed: Sequence[str]) -> Html:
    charts: list[object] = []
    for figure, name in zip(PREDICTORS.values(), READ_OUT.values(), strict=True):
        bars = [(one.row.key, [outcome[figure] for outcome in one.outcomes]) for one in rows if one.outcomes]
        if bars:
            charts += [
                tag("h3", f"By the {name}" if name == "classifier" else f"By {name}"),
                dot_chart(bars, "mIoU, %"),
            ]
    problems = [tag("h3", "Failed"), tag("ul", *(tag("li", line) for line in failed))] if failed else []
    return tag("div", _html_table(rows), *charts, *problems)


def _settings(plan: Comparison, rows: Sequence[Found]) -> Html:
    """Every tried setting of every row, with its figure on dev."""
    lines = []
    for one in rows:
        for number, setting in enumerate(plan.tried(one.row)):
            value = f"{one.dev[number]:.1f}" if number in one.dev else "failed" if plan.tries > 1 else "-"
            chosen = number == one.setting and one.ready
            words = described(setting)
            lines.append([one.row.key, tag("b", words) if chosen else words, tag("b", value) if chosen else value])
    same = " ".join(plan.overrides)
    note = f"{choice(plan, rows)}{f' Overrides for all: {same}' if same else ''}"
    return tag("div", tag("p", note, class_="note"), table(["method", "setting", "mIoU on dev"], lines, text=(1,)))


CHARTS = {  # key of a curve's points -> heading, factor
    "cross_entropy": ("Cross-entropy on the labelled pixels", 1.0),
    "total": ("Total loss, a sum of other terms for each method", 1.0),
    "validation_mean_iou": ("mIoU of the classifier on the test list, which chose nothing", 100.0),
}


def _curves(rows: Sequence[Found]) -> Html:
    parts: list[object] = []
    for name, (heading, factor) in CHARTS.items():
        curves = [curve for one in rows for curve in _mean_curve(one, name, factor)]
        if curves:
            parts += [tag("h3", heading), line_chart(curves, "step", name)]
    note = "Means over the steps between two points, and over seeds."
    return tag("div", tag("p", note, class_="note"), *parts)


def _mean_curve(one: Found, name: str, factor: float) -> list[Curve]:
    """The curve of a row, the mean over seeds at the steps that all of them have; none where there is none."""
    of_runs = [{point["step"]: point[name] for point in read_curve(run.folder) if name in point} for run in one.runs]
    steps = sorted(set.intersection(*(set(curve) for curve in of_runs)))
    points = [(step + 1, factor * statistics.mean(curve[step] for curve in of_runs)) for step in steps]
    return [Curve(one.row.key, points)] if points else []


def _over_read_outs(rows: Sequence[Found], draw: Callable[[str], Sequence[Html]]) -> Html:
    parts: list[object] = []
    for kind, name in READ_OUT.items():
        parts += [tag("h3", name.capitalize()), *draw(kind)]
    return tag("div", *parts)


def _classes(rows: Sequence[Found], names: Sequence[str]) -> Html:
    def draw(kind: str) -> list[Html]:
        columns = [_mean_iou(one, kind) for one in rows]
        return [class_bars(names, [one.row.key for one in rows], columns)]

    return _over_read_outs(rows, draw)


def _mean_iou(one: Found, kind: str) -> list[float | None]:
    """The IoU of each class, the mean over the seeds where it occurs."""
    found = []
    for values in zip(*(outcome["iou"][kind] for outcome in one.outcomes), strict=True):
        given = [value for value in values if value is not None]
        found.append(statistics.mean(given) if given else None)
    return found


def _confusion(rows: Sequence[Found], names: Sequence[str]) -> Html:
    note = "Each row: a true class, and to which classes its pixels went, per cent, over all seeds."

    def draw(kind: str) -> list[Html]:
        parts = []
        for number, one in enumerate(rows):
            counts = sum(run.counts(kind) for run in one.runs)
            opened = "open" if number == 0 and kind == next(iter(READ_OUT)) else None
            parts.append(tag("details", tag("summary", one.row.key), confusion_table(counts, names), open=opened))
        return parts

    return tag("div", tag("p", note, class_="note"), _over_read_outs(rows, draw))
