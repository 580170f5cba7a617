"""SIGKILLs of the studio's server at random moments of a sitting: every confirmed stroke must be there."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from _served import Served, stroke
from PIL import Image

IMAGES = 4
LONGEST = 3.0  # seconds of work before a kill
EARLY = 0.15  # share of the kills while the server begins
CLASSES = "background,cow,sky"


class Sitting:
    """What a page has sent, and what it knows to be safe."""

    def __init__(self, draw: random.Random) -> None:
        self.draw, self.confirmed = draw, 0
        self.strokes: dict[str, list[str]] = {f"{number}.png": [] for number in range(IMAGES)}
        self.done: list[tuple[str, str]] = []  # confirmed strokes that undo would take, in order
        self.undone: list[tuple[str, str]] = []
        self.pending: tuple[str, str, str] | None = None  # the edit without an answer: what, image, stroke

    def work(self, served: Served, end: threading.Event) -> None:
        """Draw, undo and redo until the server dies."""
        try:
            keys = [one["key"] for one in served.get("/api/state").json()["classes"]]
            while not end.is_set():
                self.step(served, keys)
        except (httpx.HTTPError, OSError):
            return

    def step(self, served: Served, keys: list[str]) -> None:
        """One edit, confirmed or not."""
        what = self.draw.choices(["stroke", "undo", "redo"], [8, 2, 1])[0]
        stack = {"undo": self.done, "redo": self.undone}.get(what)
        if not stack:
            image = self.draw.choice(list(self.strokes))
            points = [(self.draw.uniform(0, 60), self.draw.uniform(0, 40)) for _ in range(self.draw.randint(2, 200))]
            edit = stroke(image, self.draw.choice(keys), points)
            self.pending = "stroke", image, edit["stroke"]["id"]
            served.post("/api/edits", {"client": "page", "edits": [edit]})
        else:
            self.pending = what, *stack[-1]
            served.post(f"/api/{what}", {"client": "page"})
        self.confirm()

    def confirm(self) -> None:
        """What was sent last is done."""
        assert self.pending is not None
        what, image, name = self.pending
        self.pending = None
        self.confirmed += 1
        if what == "undo":
            self.strokes[image].remove(name)
            self.undone.append(self.done.pop())
            return
        self.strokes[image].append(name)
        self.done.append((image, name))
        if what == "redo":
            self.undone.pop()
        else:
            self.undone.clear()

    def check(self, served: Served) -> list[str]:
        """Faults of a new server: it must have what was confirmed, with the unanswered edit or without it."""
        found = {}
        for image in self.strokes:
            answer = served.get(f"/api/images/{image}/strokes").json()
            found[image] = [one["id"] for one in answer["strokes"]]
        if found == self.strokes:
            self.pending = None
            return []
        if self.pending is not None:
            self.confirm()
        return [] if found == self.strokes else [f"expected {_counts(self.strokes)}, got {_counts(found)}"]


def _counts(strokes: dict[str, list[str]]) -> dict[str, int]:
    return {image: len(names) for image, names in strokes.items()}


def torture(kills: int, seed: int, folder: Path, source: str) -> dict[str, Any]:
    """Kill `kills` times; what went wrong."""
    photos, draw = folder / "photos", random.Random(seed)
    photos.mkdir()
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    sitting, faults, early = Sitting(draw), list[str](), 0
    for number in range(kills):
        if draw.random() < EARLY:
            early += _kill_early(photos, source, draw)
            continue
        served = Served(photos, "--classes", CLASSES, "--source", source)
        faults += [f"kill {number}: {fault}" for fault in sitting.check(served)]
        end = threading.Event()
        page = threading.Thread(target=sitting.work, args=(served, end))
        page.start()
        time.sleep(draw.uniform(0, LONGEST))
        served.process.send_signal(signal.SIGKILL)
        end.set()
        page.join()
        served.stop(signal.SIGKILL)
        if (number + 1) % 10 == 0:
            print(f"{number + 1} kills, {len(sitting.done)} strokes, {len(faults)} faults", flush=True)
    with Served(photos, "--classes", CLASSES, "--source", source) as served:
        faults += [f"at the end: {fault}" for fault in sitting.check(served)]
    faults += _files(photos, sitting)
    strokes = sum(map(len, sitting.strokes.values()))
    counts = {"kills": kills, "while it began": early, "confirmed edits": sitting.confirmed}
    return {**counts, "strokes at the end": strokes, "faults": faults}


def _kill_early(photos: Path, source: str, draw: random.Random) -> int:
    """Kill a server that has not said yet where it is."""
    words = [sys.executable, "-m", "spml", "studio", str(photos), "--no-browser", "--port", "0", "--source", source]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(draw.uniform(0.3, 2))
    process.kill()
    process.wait()
    return 1


def _files(photos: Path, sitting: Sitting) -> list[str]:
    """After a clean end the folder's files say what was confirmed, and nothing temporary is left."""
    faults = [f"left: {path.name}" for path in photos.rglob(".*.tmp")]
    for image, names in sitting.strokes.items():
        path = photos / "strokes" / f"{Path(image).stem}.json"
        held = [one["id"] for one in json.loads(path.read_text())["strokes"]] if path.is_file() else []
        faults += [] if held == names else [f"{path.name}: expected {len(names)} strokes, got {len(held)}"]
    return faults
