"""The built-in data set: drawn scenes (`spml.data.scenes`) with weak annotations, over-segmentations and lists."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from spml.data import annotate
from spml.data.lists import write_list
from spml.data.oversegment import load_method, oversegment
from spml.data.scenes import CLASSES, make_scene
from spml.data.work import each
from spml.errors import UserError
from spml.files import write_atomically

VERSION = 1  # of the drawing; another one is other data
META = "meta.json"
LAYERS = ("image", "mask", "instance", "point", "scribble", "box", "oversegmentation")  # a folder each
LISTS = {
    "train.txt": ("image", "point", "oversegmentation"),
    "train_scribble.txt": ("image", "scribble", "oversegmentation"),
    "train_box.txt": ("image", "box", "oversegmentation"),
    "train_mask.txt": ("image", "mask", "oversegmentation"),
    "train_instance.txt": ("image", "mask", "instance"),
    "val.txt": ("image", "mask", "instance"),
}
POINT_RADIUS = 3  # pixels; the pictures are a quarter as wide as VOC's
STROKE_RADIUS = 1
OVERSEGMENTATION_THRESHOLD = 2.0  # about 15 regions an image, whose borders leave 99 % of the pixels in the right class
IMAGES_PER_PROCESS = 50  # fewer are not worth the start of a process

Array = np.ndarray


def make_shapes(
    save_dir: str | Path,
    num_train: int = 300,
    num_val: int = 80,
    seed: int = 0,
    *,
    overwrite: bool = False,
    processes: int = 1,
) -> bool:
    """Write the data set: images, masks, weak annotations, over-segmentations and the lists that pair them (`LISTS`).

    Image i of a split depends on (seed, split, i) alone: a larger set begins with the smaller one. Beside the lists
    stand `tags.txt` (name and class numbers of each training image), `classes.txt` (`CLASSES`, one a line) and
    `meta.json`, written last, which says that the data are complete.

    Returns: False where `save_dir` holds just this data already.
    Raises: UserError for counts below 1, a negative seed, or a folder with other data unless `overwrite`.
    """
    save_dir = Path(save_dir)
    if num_train < 1 or num_val < 1 or seed < 0:
        raise UserError(
            "expected --num_train and --num_val of at least 1 and --seed of at least 0, "
            f"got {num_train}, {num_val} and {seed}"
        )
    meta = {"num_train": num_train, "num_val": num_val, "seed": seed, "version": VERSION}
    if _is_complete(save_dir, meta, overwrite):
        return False
    load_method("hierarchy")  # a missing package shows here, not in a process
    save_dir.mkdir(parents=True, exist_ok=True)  # as does a folder that cannot be
    names = [f"{split}_{i:05d}" for split, count in (("train", num_train), ("val", num_val)) for i in range(count)]
    tasks = [(save_dir, seed, name) for name in names]
    tags = list(each(_write_sample, tasks, min(processes, len(names) // IMAGES_PER_PROCESS), "shapes"))
    for file, layers in LISTS.items():
        split = file.removesuffix(".txt").split("_")[0]
        rows = [[f"{layer}/{name}.png" for layer in layers] for name in names if name.startswith(split)]
        write_list(save_dir / file, rows)
    _write_lines(save_dir / "tags.txt", tags[:num_train])
    _write_lines(save_dir / "classes.txt", CLASSES)
    _write_lines(save_dir / META, [json.dumps(meta)])
    return True


def _is_complete(save_dir: Path, meta: dict[str, int], overwrite: bool) -> bool:
    """Whether the folder holds the data `meta` describes; where other data may go, it takes away the old pictures."""
    path = save_dir / META
    found = path.read_text().strip() if path.is_file() else None
    if found == json.dumps(meta):
        return True
    if found is None and not any((save_dir / name).exists() for name in (*LISTS, "tags.txt", "classes.txt")):
        return False
    if not overwrite:
        raise UserError(
            f"{save_dir} holds other data ({found or 'no ' + META}), expected {json.dumps(meta)}: "
            "choose another --save_dir, or replace it by --overwrite"
        )
    if found is not None:
        path.unlink()
        for layer in LAYERS:
            shutil.rmtree(save_dir / layer, ignore_errors=True)
    return False


def _write_sample(save_dir: Path, seed: int, name: str) -> str:
    """Draw and write one sample, of the training split with its annotations. Returns its line of `tags.txt`."""
    split, index = name.split("_")
    scene = make_scene(np.random.default_rng([seed, split == "val", int(index)]))
    layers = {"image": scene.image, "mask": scene.mask, "instance": scene.instance}
    if split == "train":
        labels, own = (scene.mask, scene.instance), annotate.sample_seed(name, seed)
        layers["point"] = annotate.points(*labels, seed=own, dilation=POINT_RADIUS)
        layers["scribble"] = annotate.scribbles(*labels, seed=own, dilation=STROKE_RADIUS)
        layers["box"] = annotate.box_label(annotate.boxes(*labels), scene.mask.shape)
        layers["oversegmentation"] = oversegment(scene.image, threshold=OVERSEGMENTATION_THRESHOLD)
    for layer, array in layers.items():
        _write_png(save_dir / layer / f"{name}.png", array)
    return " ".join([name, *map(str, annotate.tags(scene.mask))])


def _write_png(path: Path, array: Array) -> None:
    write_atomically(path, lambda out: Image.fromarray(array).save(out, "PNG"))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    write_atomically(path, lambda out: out.write("".join(f"{line}\n" for line in lines).encode()))
