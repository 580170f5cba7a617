"""The process that trains: `python -m spml.app.worker RUN`. It reads `job.json` and writes `state.json`.

Stages: over-segmentations of the annotated images; the strokes spread over them by frozen features, where the recipe
begins so; the embedding; pseudo labels and a classifier on them, where the recipe says so; every image's labels.
"""

import copy
import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

import spml
from spml.app.images import reduced
from spml.app.job import CLASSIFIER_SHARE, Wishes, build_config, classifier_words, read_wishes
from spml.app.labels import palette, write_label
from spml.app.state import Class
from spml.classes import MAX_CLASSES
from spml.data.oversegment import METHODS, load_method
from spml.data.samples import read_image, read_label
from spml.errors import UserError
from spml.files import read_json, write_atomically, write_json
from spml.models.pretrained import PACKAGE
from spml.records import hash_array

POINTS = 400  # of the curve, at most
REPORT = 0.5  # seconds between two reports
PICTURES, PICTURED = 5, 2  # times that pictures are drawn in training, and of how many images
PREDICTED_SIDE = 1024  # pixels of an image that is predicted
TRIAL = 4  # steps that tell how long one takes


class Stopped(Exception):
    """The page asked for the end."""


@dataclass
class Report:
    """What the page is told; `write` puts it on disk."""

    run: Path
    state: str = "running"
    message: str = ""
    step: int = 0
    steps: int = 0
    seconds_left: float | None = None
    history: list[list[float]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    last: float = 0.0

    def write(self, now: bool = True, **changes: Any) -> None:
        """Change and write; `now` False: only if the last time is a while ago."""
        for name, value in changes.items():
            setattr(self, name, value)
        if not now and time.monotonic() - self.last < REPORT:
            return
        self.last = time.monotonic()
        names = ("state", "message", "step", "steps", "seconds_left", "history", "pictures")
        write_json(self.run / "state.json", {name: getattr(self, name) for name in names})

    def curve(self, step: int, total: float) -> None:
        """Add a point, and thin the curve where it has too many."""
        self.history.append([step, round(total, 5)])
        if len(self.history) > POINTS:
            self.history = self.history[::2]


class Worker:
    """One run.

    Args:
        run: its folder, with `job.json`.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.job = read_json(run / "job.json", "a job of the studio")
        self.wishes: Wishes = read_wishes(self.job["wishes"])
        self.folder = run.parents[1]
        self.classes = [Class(one["key"], one["name"], one["color"], one["locked"]) for one in self.job["classes"]]
        self.stop = threading.Event()
        before = read_json(run / "state.json")
        self.report = Report(run, history=before.get("history", []), pictures=before.get("pictures", []))

    def work(self) -> None:
        """All stages; each goes on where it was stopped."""
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._work()
            self.report.write(state="done", message="", seconds_left=None)
        except Stopped:
            self.report.write(state="stopped", message="stopped; it can go on", seconds_left=None)
        except UserError as error:
            self.report.write(state="failed", message=str(error), seconds_left=None)
        except Exception as error:  # the page shows it, the log has all of it
            self.report.write(state="failed", message=f"{type(error).__name__}: {error}"[:500], seconds_left=None)
            raise

    def _work(self) -> None:
        samples = self._samples()
        steps = self._steps(samples)
        config = self._config(steps, samples)
        later = max(1, int(CLASSIFIER_SHARE * steps)) if config.pipeline.classifier else 0
        if config.pipeline.spread:
            samples = self._spread(config, samples)
        self.report.write(steps=steps + later, step=0, message="learning from strokes")
        run = self._train(config, self.run / "stage1", samples, 0)
        if later:
            run = self._classifier(run.model(), samples, steps, later)
        self._predict(run.model())

    def _classifier(self, model: Any, samples: list[spml.Sample], steps: int, later: int) -> Any:
        """A classifier on the frozen embedding, from pseudo labels of the annotated images."""
        pseudo = self._pseudo(model, samples)
        words = [*self.wishes.config, *classifier_words(self.run / "stage1")]
        wishes = Wishes(**{**self.wishes.as_json(), "config": tuple(words)})
        config = build_config(wishes, later, self.run / "classes.txt", self.job["background"], True)
        self.report.write(message="learning the classifier from pseudo labels")
        return self._train(config, self.run / "stage2", pseudo, steps)

    def _spread(self, config: Any, samples: list[spml.Sample]) -> list[spml.Sample]:
        """The strokes spread over their images, as the page does it; images without strokes stay as they are."""
        spreader = None
        found = []
        for number, (sample, one) in enumerate(zip(samples, self.job["samples"], strict=True)):
            self._check()
            self.report.write(False, message=f"spreading strokes: {number} of {len(samples)}")
            path, said = self.run / "spread" / f"{sample.name}.png", read_label(str(sample.label))
            if (said < MAX_CLASSES).any():
                if not path.is_file():
                    spreader = spreader or self._taught(config, samples)
                    within = within_boxes(one["boxes"], said)
                    label = spreader.spread(sample.image, said, within=within, crf=self.wishes.crf).label
                    write_atomically(path, partial(_write_png, label))
                sample = spml.Sample(sample.image, path, sample.regions, sample.tags, name=sample.name)
            found.append(sample)
        return found

    def _taught(self, config: Any, samples: list[spml.Sample]) -> Any:
        """A Spreader that knows all strokes."""
        source = str(config.network.pretrained)
        spreader = spml.Spreader(source if source.startswith(PACKAGE) else f"{PACKAGE}efficientnet_lite0")
        for sample in samples:
            self._check()
            spreader.remember(str(sample.image), str(sample.label), sample.name)
        return spreader

    def _config(self, steps: int, samples: list[spml.Sample]) -> Any:
        regions = all(sample.regions is not None for sample in samples)
        return build_config(self.wishes, steps, self.run / "classes.txt", self.job["background"], regions)

    def _listen(self) -> None:
        """Hear the page's stop."""
        while not self.stop.is_set():
            if (self.run / "stop").exists():
                self.stop.set()
            time.sleep(0.2)

    def _check(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def _samples(self) -> list[spml.Sample]:
        """The annotated images with over-segmentations, where a method is installed."""
        method = next((name for name in METHODS if _installed(name)), None)
        found = []
        for number, one in enumerate(self.job["samples"]):
            self._check()
            self.report.write(False, message=f"cutting images into regions: {number} of {len(self.job['samples'])}")
            path = self.folder / one["name"]
            regions = None if method is None else self._regions(path, method)
            stem = os.path.splitext(one["name"])[0]
            found.append(spml.Sample(path, self.run / one["label"], regions, one["tags"], name=stem))
        return found

    def _regions(self, path: Path, method: str) -> Path:
        """The over-segmentation of an image, made once."""
        image = read_image(path)
        kept = self.folder / ".studio" / "regions" / f"{hash_array(image)}.png"
        if not kept.is_file():
            label = spml.oversegment(image, method)
            write_atomically(kept, lambda file: Image.fromarray(label).save(file, "PNG"))
        return kept

    def _steps(self, samples: list[spml.Sample]) -> int:
        """As wished, or as many as the minutes allow; asked once, as a run that goes on must not change."""
        kept = self.run / "steps.json"
        if kept.is_file():
            return int(read_json(kept)["steps"])
        steps = self.wishes.steps
        if self.wishes.minutes is not None:
            self.report.write(message="measuring how long a step takes")
            times: list[float] = []
            trial, watch = self.run / "trial", [lambda *_: times.append(time.monotonic())]
            shutil.rmtree(trial, ignore_errors=True)  # of a run that was killed before it wrote the steps
            if not spml.train(self._config(TRIAL, samples), trial, samples, watch, stop=self.stop).finished:
                raise Stopped
            each = (times[-1] - times[0]) / (TRIAL - 1)
            seconds = 60 * self.wishes.minutes / (1 + CLASSIFIER_SHARE)
            steps = max(TRIAL, int(seconds / max(each, 1e-6)))
        write_json(kept, {"steps": steps})
        return steps

    def _train(self, config: Any, folder: Path, samples: list[spml.Sample], before: int) -> Any:
        """One training; it goes on where it was stopped. `before`: steps of earlier stages."""
        watch = _Watch(self, config, samples, before)
        run = spml.train(config, folder, samples, [watch], stop=self.stop, resume=True)
        if not run.finished:
            raise Stopped
        self._check()
        return run

    def _pseudo(self, model: Any, samples: list[spml.Sample]) -> list[spml.Sample]:
        """The annotated images with labels of every pixel: what was learned, under the strokes what they say."""
        found = []
        for number, sample in enumerate(samples):
            self._check()
            self.report.write(False, message=f"pseudo labels: {number} of {len(samples)}")
            path = self.run / "pseudo" / f"{sample.name}.png"
            if not path.is_file():
                said = read_label(str(sample.label))
                label = model.predict(sample.image, crf=self.wishes.crf).label
                label = np.where(said < MAX_CLASSES, said, label).astype(np.uint8)
                write_atomically(path, partial(_write_png, label))
            found.append(spml.Sample(sample.image, path, name=sample.name))
        return found

    def _predict(self, model: Any) -> None:
        """Label every image, and write how sure the model is of each."""
        names, sure = self.job["images"], dict[str, float]()
        start = time.monotonic()
        for number, name in enumerate(names):
            self._check()
            left = (time.monotonic() - start) / number * (len(names) - number) if number else None
            self.report.write(False, message=f"labelling all images: {number} of {len(names)}", seconds_left=left)
            stem = os.path.splitext(name)[0]
            try:
                image = read_image(self.folder / name)
            except UserError:  # gone or damaged since
                continue
            small = cv2.resize(image, reduced((image.shape[0], image.shape[1]), PREDICTED_SIDE)[::-1])
            found = model.predict(small)
            write_label(self.run / "predictions" / f"{stem}.png", found.label, self.classes)
            margin = np.rint(255 * found.margin.clip(0, 1)).astype(np.uint8)
            path = self.run / "margins" / f"{stem}.png"
            write_atomically(path, partial(_write_png, margin))
            sure[name] = round(float(found.margin.mean()), 4)
        write_json(self.run / "sure.json", sure)


class _Watch:
    """The callback of a training: the curve, the time left, now and then pictures."""

    def __init__(self, worker: Worker, config: Any, samples: list[spml.Sample], before: int) -> None:
        self.worker, self.config, self.samples, self.before = worker, config, samples, before
        self.start: tuple[float, int] | None = None

    def __call__(self, step: int, losses: Mapping[str, float], task: Any) -> None:
        """After a step."""
        report, done = self.worker.report, self.before + step + 1
        now = time.monotonic()
        self.start = self.start or (now, done)
        each = (now - self.start[0]) / max(1, done - self.start[1])
        left = each * (report.steps - done) if done > self.start[1] else None
        report.curve(done, float(losses["total"]))
        every = max(1, self.config.train.max_iteration // PICTURES)
        if (step + 1) % every == 0:
            self._draw(done, task)
        report.write(False, step=done, seconds_left=left)

    def _draw(self, done: int, task: Any) -> None:
        """Pictures of what the network makes of the first images."""
        from spml.inference.model import Model  # slow to import

        parts = copy.deepcopy(dict(task.parts))  # a model computes in another mode and layout
        classifier = parts.get("prediction_model")
        if classifier is None or "embedding_model" not in parts:
            return
        model = Model(self.config, parts["embedding_model"], classifier, next(task.parameters()).device)
        names = []
        for number, sample in enumerate(self.samples[:PICTURED]):
            image = read_image(sample)
            image = cv2.resize(image, reduced((image.shape[0], image.shape[1]), 320)[::-1])
            colours = palette(self.worker.classes)[model.predict(image).label]
            picture = Image.fromarray(cv2.addWeighted(image, 0.5, colours, 0.5, 0))
            names.append(f"{done:06d}-{number}.png")
            path = self.worker.run / "pictures" / names[-1]
            write_atomically(path, lambda file, picture=picture: picture.save(file, "PNG"))  # type: ignore[misc]
        self.worker.report.pictures = names


def within_boxes(boxes: list[dict[str, int]], said: np.ndarray) -> dict[int, np.ndarray]:
    """Class id to (H, W) bool, where it may lie: in its boxes, and where strokes say so."""
    found: dict[int, np.ndarray] = {}
    for box in boxes:
        allowed = found.setdefault(box["class"], said == box["class"])
        allowed[box["y0"] : box["y1"], box["x0"] : box["x1"]] = True
    return found


def _write_png(label: np.ndarray, file: Any) -> None:
    Image.fromarray(label).save(file, "PNG")


def _installed(method: str) -> bool:
    try:
        load_method(method)
    except UserError:
        return False
    return True


def main(words: list[str]) -> int:
    """Work on the run that the only word names."""
    if hasattr(os, "nice"):
        os.nice(5)  # give way to the server, so that the page stays quick
    Worker(Path(words[0]).resolve()).work()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
