"""Packs the files of a data list into tars of some thousand samples each, and writes the list that names them."""

import io
import os
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from spml import members, records
from spml.data.listed import take
from spml.data.lists import check_unique_names, read_list, write_list
from spml.data.samples import DataError, Sample
from spml.data.shards import IMAGES, LABEL, REGIONS
from spml.data.work import count_workers, each
from spml.errors import UserError
from spml.files import write_atomically


def pack_list(
    data_dir: str | Path,
    data_list: str | Path,
    save_dir: str | Path,
    *,
    samples: int = 2000,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `save_dir/<stem>-000000.tar` .. with their indexes, and `save_dir/<stem>.txt`, which names them all.

    A shard holds `x.jpg`, `x.label.png` and `x.regions.png` of its samples, as bytes of the files, in the order of the
    list. The same files give the same tars. A shard that is there and holds the same files is kept, so that an
    interrupted run goes on.

    Args:
        samples: of each shard; the last one has the rest.
        num_workers: processes; None: one a core.
        overwrite: write shards again that hold something else.

    Returns: the list, relative to `save_dir`.
    Raises:
        UserError: a file that is missing; two images of one name; a label that is no PNG; shards of something else.
    """
    if samples < 1:
        raise UserError(f"--samples: expected at least 1, got {samples}")
    listed = read_list(data_list, data_dir)
    check_unique_names(listed)
    folder, stem = Path(save_dir), Path(data_list).stem
    starts = range(0, len(listed), samples)
    tars = [folder / f"{stem}-{number:06d}.tar" for number in range(len(starts))]
    beyond = folder / f"{stem}-{len(tars):06d}.tar"
    if beyond.exists():
        raise UserError(f"{beyond}: expected {len(tars)} shards of {samples} samples, got more: remove them")
    tasks = [
        (take(listed, range(start, min(start + samples, len(listed)))), tar)
        for start, tar in zip(starts, tars, strict=True)
    ]
    for _ in each(
        partial(_shard, overwrite=overwrite), tasks, count_workers(num_workers, len(tasks)), "shards", "shard"
    ):
        pass
    last = f"{stem}-{{000000..{len(tars) - 1:06d}}}.tar" if len(tars) > 1 else tars[0].name
    write_list(folder / f"{stem}.txt", [[last]])
    return folder / f"{stem}.txt"


def _shard(samples: Sequence[Sample], tar: Path, overwrite: bool) -> None:
    """Write one shard, unless it is there."""
    entries = [entry for sample in samples for entry in _entries(sample)]
    sizes = [(name, _size(sample, path)) for sample, path, name in entries]
    if tar.is_file() and not overwrite:
        if members.sizes(tar) != sizes:
            raise UserError(f"{tar}: holds other samples: expected another folder, or --overwrite")
        for _, path, name in entries:
            if records.hash_file(path) != records.hash_file(tar / name):
                raise UserError(f"{tar}: holds another {path}: expected another folder, or --overwrite")
        return

    def write(file: io.BufferedIOBase) -> None:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for (sample, path, name), (_, size) in zip(entries, sizes, strict=True):
                header = tarfile.TarInfo(name)
                header.size, header.mode = size, 0o644
                try:
                    with members.open_binary(path) as content:
                        archive.addfile(header, content)
                except OSError as error:
                    raise DataError(f"{sample.where}: cannot read {path}: {error.strerror or error}") from error

    write_atomically(tar, write)  # type: ignore[arg-type]
    members.write_index(tar)


def _entries(sample: Sample) -> list[tuple[Sample, Path, str]]:
    """The files of a sample, with their names in the shard."""
    image = sample.image_path
    ending = image.name.removeprefix(sample.name)
    if ending.lower() not in IMAGES:
        raise DataError(f"{sample.where}: expected an image {' '.join(IMAGES)}, got {image.name}")
    found = [(sample, image, sample.name + ending)]
    for path, ending in ((sample.label, LABEL), (sample.regions, REGIONS)):
        if isinstance(path, Path):
            if path.suffix.lower() != ".png":
                raise DataError(f"{sample.where}: expected a PNG as label, got {path.name}")
            found.append((sample, path, sample.name + ending))
    return found


def _size(sample: Sample, path: Path) -> int:
    try:
        if members.split(path) is None:
            return os.path.getsize(path)
        with members.open_binary(path) as content:
            return len(content.read())
    except OSError:
        raise DataError(f"{sample.where}: no file {path}") from None
