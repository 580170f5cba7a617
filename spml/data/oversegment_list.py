"""Over-segmentations for a whole data list, in several processes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from spml import records
from spml.data.annotate_list import write_label
from spml.data.lists import check_unique_names, given_entries, list_content, read_list, relative_path, write_list
from spml.data.oversegment import MAX_SEGMENTS, load_method, oversegment
from spml.data.samples import DataError, Sample, read_image, read_label
from spml.data.work import count_workers, each, hash_parts
from spml.errors import UserError
from spml.visualize.pictures import PICTURES, chosen, regions_picture


def oversegment_list(
    data_dir: str | Path,
    data_list: str | Path,
    save_dir: str | Path,
    *,
    method: str = "hierarchy",
    threshold: float = 1.2,
    max_segments: int = MAX_SEGMENTS,
    num_workers: int | None = None,
    overwrite: bool = False,
    list_out: str | Path | None = None,
) -> int:
    """Write `save_dir/<name>.png` (uint8, ids 0..n-1) for every image of a list; see `oversegment` for the options.

    Files of the same options and images, by the folder's record, stay as they are. `save_dir/pictures` shows some.

    Args:
        num_workers: processes; None: one for each core. 0 and 1 work in this process.
        overwrite: make files again that are there already, of other options, too.
        list_out: a list to write: image and semantic label of `data_list`, over-segmentation, relative to `data_dir`.
            Outside of `save_dir`, a file with other lines is an error, unless `overwrite`.

    Returns: the number of files made.
    Raises: UserError for options out of range, a missing package, images that cannot be read, and a folder that holds
        over-segmentations of other options or images.
    """
    load_method(method)
    _check(threshold, max_segments, num_workers)
    samples, folder = read_list(data_list, data_dir), Path(save_dir)
    check_unique_names(samples)
    if list_out is not None:  # before the work: a path that it cannot hold shows at once
        content = list_content(list_out, rows := _rows(samples, Path(data_dir), folder))
        _check_list(Path(list_out), content, folder, overwrite)
    paths = {sample.name: folder / f"{sample.name}.png" for sample in samples}
    settings = {"method": method, "threshold": float(threshold), "max_segments": max_segments}
    record = records.record_of("over-segmentations", settings, hash_parts(samples, "image"), list=str(data_list))
    complete = records.start(folder, record, made=("*.png", f"{PICTURES}/*.png"), overwrite=overwrite)
    if list_out is not None:
        write_list(list_out, rows)
    pending = [sample for sample in samples if overwrite or not paths[sample.name].is_file()]
    if complete and pending:
        records.reopen(folder)
    work = partial(_one, method=method, threshold=threshold, max_segments=max_segments)
    tasks = [(sample, paths[sample.name]) for sample in pending]
    for _ in each(work, tasks, count_workers(num_workers, len(tasks)), "over-segmentation"):
        pass
    if pending or not complete:
        for sample in chosen(samples):
            regions = read_label(paths[sample.name], sample.where)
            regions_picture(read_image(sample), regions, folder / PICTURES / f"{sample.name}.png")
        records.finish(folder, images=len(samples))
    return len(tasks)


def _check_list(path: Path, content: str, folder: Path, overwrite: bool) -> None:
    """Raise UserError for a list of the user's, with other lines, in the place of the new one."""
    if overwrite or path.parent.resolve() == folder.resolve() or not path.is_file():
        return
    if path.read_bytes() != content.encode():
        raise UserError(f"--list_out {path}: holds other lines already: expected another file, or --overwrite")


def _one(sample: Sample, path: Path, method: str, threshold: float, max_segments: int) -> None:
    label = oversegment(read_image(sample), method, threshold=threshold, max_segments=max_segments)
    write_label(path, label)


def _rows(samples: Sequence[Sample], data_dir: Path, save_dir: Path) -> list[list[str]]:
    rows = []
    for sample in samples:
        if sample.label is None:
            raise DataError(f"{sample.where}: --list_out needs a list with semantic labels, expected 2 columns, got 1")
        given = given_entries(sample, data_dir, "image", "label")
        rows.append([*given, relative_path(save_dir / f"{sample.name}.png", data_dir)])
    return rows


def _check(threshold: float, max_segments: int, num_workers: int | None) -> None:
    count_workers(num_workers, 0)
    if not threshold > 0:
        raise UserError(f"--threshold: expected a number above 0, got {threshold}")
    if not 1 <= max_segments <= MAX_SEGMENTS:
        raise UserError(f"--max_segments: expected 1 to {MAX_SEGMENTS}, got {max_segments}")
