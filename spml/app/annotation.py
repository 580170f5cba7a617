"""The annotation of a moment, written down for a training, so that drawing on does not change what it learns."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from spml.app.files import Files, boxes_of
from spml.app.images import Images
from spml.app.job import Wishes, build_config
from spml.app.state import State
from spml.app.strokes import paint
from spml.classes import MAX_CLASSES
from spml.errors import UserError
from spml.files import write_atomically, write_json


def write_job(run: Path, wishes: Wishes, state: State, images: Images, files: Files) -> None:
    """Write `classes.txt`, `labels/` and, last, `job.json` into the folder of a run.

    Raises:
        UserError: settings that no config takes, or nothing to learn from.
    """
    if len(state.classes) < 2:
        raise UserError(f"train: expected at least 2 classes, got {len(state.classes)}")
    names = run / "classes.txt"
    content = "".join(f"{one.name}\n" for one in state.classes)
    write_atomically(names, lambda file: file.write(content.encode()))
    build_config(wishes, wishes.steps, names, state.background, True)
    samples = [one for name in images.entries if (one := _sample(name, run, state, images, files)) is not None]
    learned = {index for one in samples for index in one.pop("ids")}
    if len(learned) < 2:
        raise UserError(f"train: expected strokes of at least 2 classes, got {len(learned)}")
    pictures = [name for name in images.entries if images.error(name) is None]
    classes = [one.as_json(index) for index, one in enumerate(state.classes)]
    job = {"wishes": wishes.as_json(), "classes": classes, "background": state.background}
    write_json(run / "job.json", {**job, "samples": samples, "images": pictures})


def _sample(name: str, run: Path, state: State, images: Images, files: Files) -> dict[str, Any] | None:
    """What is known of an image: its accepted labels with its strokes on them, and its tags; None where nothing is."""
    drawing = state.drawing(name)
    if images.error(name) is not None:
        return None
    accepted = files.accepted(name, state.classes)
    if accepted is None and not drawing.strokes and not drawing.tags:
        return None
    size = images.size(name)
    label = paint(drawing.strokes, state.ids, size)
    if accepted is not None and accepted.shape == size:
        label = np.where(label < MAX_CLASSES, label, accepted)
    found = sorted(set(np.unique(label).tolist()) - set(range(MAX_CLASSES, 256)))
    if not found and not drawing.tags:
        return None
    path = f"labels/{images.entry(name).stem}.png"  # inside the run: the folder may be moved before it goes on
    _, content = cv2.imencode(".png", label)
    write_atomically(run / path, lambda file: file.write(content.tobytes()))
    tags = sorted(({state.ids[key] for key in drawing.tags} | set(found)) - {state.background})
    known = {"name": name, "label": path, "tags": tags if drawing.tags else None}
    return {**known, "boxes": boxes_of(drawing, state, size), "ids": found}
