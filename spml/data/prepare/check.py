"""What a data root lacks."""

from collections.abc import Callable, Sequence
from pathlib import Path

from spml.data.lists import read_list
from spml.data.prepare import densepose, voc
from spml.data.prepare.layout import Column, DataRoot, ListPlan, remarks
from spml.data.samples import DataError
from spml.errors import UserError

PLANS: dict[str, Callable[[DataRoot], list[ListPlan]]] = {
    "voc12": voc.plan_lists,
    "densepose": densepose.plan_lists,
}
EXPERIMENTS = {"voc12": voc.EXPERIMENTS, "densepose": densepose.EXPERIMENTS}
MOST_NAMES = 2

Row = tuple[str, str, str]  # what, how many of how many, what is missing


def data_plans(dataset: str, root: DataRoot) -> list[ListPlan]:
    """The lists of `voc12` or `densepose`. Raises: UserError for another data set, or image sets that are not there."""
    if dataset not in PLANS:
        raise UserError(f"--dataset: expected one of {', '.join(PLANS)}, got {dataset!r}")
    return PLANS[dataset](root)


def check_root(
    data_dir: str | Path, dataset: str, list_dir: str | Path, experiments: Sequence[str] = ()
) -> tuple[str, bool]:
    """Compare a data root with what the experiments need: files in each folder, and the lists with all that they name.

    Args:
        list_dir: where the lists are, such as `datasets/voc12`.
        experiments: such as "scribble", or "mask" for full masks; none: those of the pipelines.

    Returns: a table, and whether nothing is missing. Raises: UserError for an unknown data set or experiment.
    """
    root = DataRoot(data_dir)
    try:
        plans = data_plans(dataset, root)
    except DataError as error:
        return f"missing: {error}", False
    known = sorted({name for plan in plans for name in plan.needed_for})
    unknown = [name for name in experiments if name not in known]
    if unknown:
        raise UserError(f"--experiments: expected some of {', '.join(known)}, got {unknown[0]!r}")
    chosen = set(experiments or EXPERIMENTS[dataset])
    plans = [plan for plan in plans if chosen & set(plan.needed_for)]
    rows = _folder_rows(plans, root) + [_list_row(plan, root, Path(list_dir)) for plan in plans]
    count = sum(bool(lacking) for _, _, lacking in rows)
    end = f"{count} of {len(rows)} are not complete" if count else f"complete for {', '.join(sorted(chosen))}"
    return f"{remarks(rows, ('folder or list', 'found', 'missing'))}\n{end}", not count


def _folder_rows(plans: Sequence[ListPlan], root: DataRoot) -> list[Row]:
    """A line for each kind of files: all the samples of all the lists that need it."""
    needed: dict[Column, set[str]] = {}
    for plan in plans:
        for column in (*plan.columns, *plan.beside):
            needed.setdefault(column, set()).update(plan.samples)
    rows = []
    for column, names in needed.items():
        missing = root.missing(column, names)
        found = f"{len(names) - len(missing):,} of {len(names):,} {column.suffix}"
        if not any((root.path / folder).is_dir() for folder in column.folders):
            lacking = "the folder"
        else:
            lacking = ", ".join(missing[:MOST_NAMES]) + (", ..." if len(missing) > MOST_NAMES else "")
        rows.append((column.folders[0], found, lacking))
    return rows


def _list_row(plan: ListPlan, root: DataRoot, list_dir: Path) -> Row:
    path, expected = list_dir / f"{plan.name}.txt", len(plan.samples)
    if not path.is_file():
        return path.name, f"0 of {expected:,} lines", f"the list, in {list_dir}"
    try:
        samples = read_list(path, root.path, columns=len(plan.columns))
    except DataError as error:
        return path.name, f"? of {expected:,} lines", str(error)
    files = [file for sample in samples for file in sample.files]
    missing = [file for file in files if not file.is_file()]
    lacking = [f"{expected - len(samples):,} lines"] if len(samples) < expected else []
    if missing:
        lacking.append(f"{len(missing):,} of its files, such as {missing[0].relative_to(root.path)}")
    return path.name, f"{len(samples):,} of {expected:,} lines", ", ".join(lacking)
