"""The report of a comparison: a Markdown table, and one HTML page that needs no other file and no network."""

import os
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch

from spml.classes import class_names
from spml.files import write_atomically
from spml.pipelines.compare_gallery import gallery, retrieval_section
from spml.pipelines.compare_sections import choice, classes, confusion, curves, markdown_table, result, settings
from spml.pipelines.comparison import Comparison
from spml.pipelines.result import Found
from spml.visualize.html import Html, join, page, tag

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


def _breaks(lines: Sequence[str]) -> list[str]:
    return [part for line in lines for part in (line, Html("<br>"))][:-1]


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


def hardware(device: torch.device) -> str:
    """The processor, and the GPU if it computes."""
    lines = CPUINFO.read_text(errors="replace").splitlines() if CPUINFO.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    cores = f"{os.cpu_count()} cores of {model or platform.processor() or platform.machine()}"
    return f"{torch.cuda.get_device_name(device)}, {cores}" if device.type == "cuda" else cores


def _side_by_side(processes: int) -> str:
    return "one run at a time" if processes == 1 else f"{processes} runs side by side, which makes each slower"


def _sections(
    plan: Comparison, rows: Sequence[Found], device: torch.device, failed: Sequence[str]
) -> list[tuple[str, Html]]:
    parts = [("Result", result(rows, failed)), ("Settings", settings(plan, rows))]
    done = [one for one in rows if one.runs]
    if not done:
        return parts
    data = plan.plain.dataset
    names = data.class_names or class_names(data.num_classes, None, data.dataset)
    parts.append(("Curves", curves(done)))
    parts.append(("Classes", classes(done, names)))
    parts.append(("Confusion", confusion(done, names)))
    parts.append(("Images", gallery(done, plan.predictor, names)))
    embedded = {one.row.annotation: one.runs[0] for one in reversed(done) if one.runs[0].config.train.task == "spml"}
    found = [retrieval_section(run, device, names) for run in reversed(embedded.values())]
    return [*parts, ("Contextual retrieval", tag("div", *found))] if found else parts
