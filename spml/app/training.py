"""Training in one process of its own, which goes on while strokes are drawn, and when the server is killed.

A run is a folder `runs/<number>`: its job (`job.json`, and the annotation as it was when the button was pressed), and
what the process says of itself (`state.json`). A new server finds both. The process holds the lock of the folder, so a
dead one is known by a lock that is free.
"""

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from spml.app.annotation import write_job
from spml.app.files import ACCEPTED, Files
from spml.app.images import Images
from spml.app.job import Wishes, form, read_wishes
from spml.app.labels import read_label, resized
from spml.app.layers import Labels
from spml.app.store import NOBODY, Store
from spml.app.strokes import short
from spml.data.samples import read_label as read_png
from spml.errors import UserError
from spml.files import read_json, write_atomically, write_json
from spml.processes import own_environment

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

EVERY = 0.5  # seconds between two looks at the process
IDLE: dict[str, Any] = {
    **{"state": "idle", "step": 0, "steps": 0, "seconds_left": None},
    **{"history": [], "message": "", "pictures": [], "run": None, "can_resume": False, "why_not": None},
}
ACTIVE = ("running", "stopping")
PAUSED = "paused"  # in the file `stop`: the server ended, and the next one goes on


class Training:
    """The runs of a folder, of which the newest counts. Every method works in any thread.

    Args:
        images: of the folder.
        store: of their strokes.
        files: of the accepted labels.
        publish: called with the name of an event and its content.
    """

    def __init__(
        self, images: Images, store: Store, files: Files, publish: Callable[[str, dict[str, Any]], None]
    ) -> None:
        self.images, self.store, self.files, self.publish = images, store, files, publish
        self.folder = images.folder / "runs"
        self._process: subprocess.Popen | None = None
        self._lock, self._stop = threading.RLock(), threading.Event()
        self._waiting: Path | None = None  # a paused run that is to go on
        self._sure: tuple[Path | None, int, dict[str, float]] = None, 0, {}
        self._thread = threading.Thread(target=self._watch, name="training", daemon=True)

    def start(self) -> None:
        """Begin to watch, and go on with a run that the last server's end has paused."""
        run = self._newest()
        if run is not None and (run / "stop").is_file() and (run / "stop").read_text() == PAUSED:
            self._waiting = run
        self._thread.start()

    def close(self) -> None:
        """Ask a run to save and pause; the next server goes on with it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        run = self._newest()
        if run is not None and self._works(run) and not (run / "stop").exists():
            _write_text(run / "stop", PAUSED)

    def begin(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Start a run with the settings of the page's form, or go on with the last: {"resume": true}.

        Raises:
            UserError: settings that cannot be used, nothing to learn from, or a run that is not over.
        """
        with self._lock:
            if self.state()["state"] in ACTIVE:
                raise UserError("train: a training runs already: stop it first")
            if content.get("resume") is True:
                run = self._newest()
                if run is None:
                    raise UserError("train: nothing to go on with")
            else:
                run = self._prepare(read_wishes({key: one for key, one in content.items() if key != "resume"}))
            self._launch(run)
        return self.state()

    def stop(self) -> dict[str, Any]:
        """Ask the run to end after its step and to save."""
        run, self._waiting = self._newest(), None
        if run is not None and self.state()["state"] in ACTIVE:
            _write_text(run / "stop", "stopped by the page")
        return self.state()

    def state(self) -> dict[str, Any]:
        """The newest run as a page sees it."""
        with self._lock:  # a look at the lock of a run holds it for a moment
            return self._state()

    def _state(self) -> dict[str, Any]:
        run = self._newest()
        if run is None:
            return {**IDLE, "settings": form(), "why_not": self._why_not()}
        content = {**IDLE, **_read(run / "state.json"), "run": run.name, "settings": form()}
        content["pictures"] = [f"/api/train/pictures/{run.name}-{name}" for name in content["pictures"]]
        if self._works(run):
            content["state"] = "stopping" if (run / "stop").exists() else "running"
        elif content["state"] in ACTIVE:  # it ended without a word
            content |= {"state": "failed", "seconds_left": None, "message": _last_words(run)}
        content["can_resume"] = content["state"] in ("stopped", "failed")
        content["why_not"] = None if content["state"] in ACTIVE else self._why_not()
        return content

    def _works(self, run: Path) -> bool:
        """Whether a process works on a run, which it does until it is gone, whatever it has written."""
        if fcntl is None:
            return self._process is not None and self._process.poll() is None
        try:
            lock = _take(run)
        except (UserError, OSError):
            return True
        assert lock is not None
        lock.close()
        return False

    def _why_not(self) -> str | None:
        """Why no training can start yet; None where it can."""
        state = self.store.state
        if len(state.classes) < 2:
            return f"expected at least 2 classes, got {len(state.classes)}"
        drawn = {one.key for drawing in state.drawings.values() for one in drawing.strokes if one.key is not None}
        if len(drawn) < 2 and not any((self.images.folder / ACCEPTED).rglob("*.png")):
            return f"expected strokes of at least 2 classes, got {len(drawn)}"
        return None

    def picture(self, name: str) -> bytes:
        """A picture that `state` names. Raises UserError where there is none."""
        run, _, rest = name.partition("-")
        if not (
            run.isascii() and run.isdigit() and rest in _read(self.folder / run / "state.json").get("pictures", [])
        ):
            raise UserError(f"no picture {short(name)}")
        try:
            return (self.folder / run / "pictures" / rest).read_bytes()
        except OSError as error:
            raise UserError(f"no picture {short(name)}") from error

    # predictions

    def sure(self) -> dict[str, float]:
        """How sure the trained model is of each image, by name."""
        run = self._predicted()
        path = None if run is None else run / "sure.json"
        if path is None or not path.is_file():
            return {}
        stamp = path.stat().st_mtime_ns
        if self._sure[:2] != (path, stamp):
            self._sure = path, stamp, {str(name): float(value) for name, value in _read(path).items()}
        return self._sure[2]

    def has_prediction(self, name: str) -> bool:
        """Whether the trained model has labelled an image."""
        return name in self.sure()

    def prediction(self, name: str, size: tuple[int, int]) -> Labels | None:
        """What the trained model says of an image, at a size (h, w). Raises UserError for a damaged file."""
        run = self._predicted()
        if run is None or not self.has_prediction(name):
            return None
        stem = self.images.entry(name).stem
        label = read_label(run / "predictions" / f"{stem}.png", self.store.state.classes)
        margin = run / "margins" / f"{stem}.png"
        if label is None or not margin.is_file():
            return None
        sure = resized(read_png(margin), size).astype(np.float32) / 255
        return Labels(resized(label, size), sure)

    def _predicted(self) -> Path | None:
        """The newest run with predictions."""
        return next((run for run in reversed(self._runs()) if (run / "sure.json").is_file()), None)

    def _runs(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if path.name.isascii() and path.name.isdigit()]
        return sorted((path for path in found if (path / "job.json").is_file()), key=lambda path: int(path.name))

    def _newest(self) -> Path | None:
        runs = self._runs()
        return runs[-1] if runs else None

    # a new run

    def _prepare(self, wishes: Wishes) -> Path:
        """Write down the job and the annotation of this moment. Raises UserError."""
        runs = self._runs()
        run = self.folder / str(int(runs[-1].name) + 1 if runs else 1)
        write_job(run, wishes, self.store.state, self.images, self.files)
        return run

    def _launch(self, run: Path) -> None:
        """Start the process, which gets the lock of the run from us, so that there is no moment without."""
        (run / "stop").unlink(missing_ok=True)
        write_json(run / "state.json", {**_read(run / "state.json"), "state": "running", "message": "starting"})
        lock = _take(run)
        words = [sys.executable, "-m", "spml.app.worker", str(run)]
        try:
            with open(run / "log.txt", "ab") as log:
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=own_environment(),
                    pass_fds=() if lock is None else (lock.fileno(),),
                    start_new_session=True,  # Ctrl-C is the server's, which pauses it
                )
        finally:
            if lock is not None:
                lock.close()

    def _go_on(self) -> None:
        """Start a paused run again, once its last process is gone."""
        with self._lock:
            if self._waiting is not None and not self._works(self._waiting):
                run, self._waiting = self._waiting, None
                self._launch(run)

    def _watch(self) -> None:
        """Tell the pages what the process says."""
        before: dict[str, Any] = {}
        while not self._stop.wait(EVERY):
            if self._process is not None:
                self._process.poll()  # a process that ended would stay in the table
            self._go_on()
            try:
                now = self.state()
            except (OSError, UserError):
                continue
            if now != before:
                self.publish("train", now)
                if before and now["state"] == "done" != before["state"]:
                    content = {"images": None, "classes": False, "seq": self.store.seq, "client": NOBODY}
                    self.publish("changed", content)
                before = now


def _read(path: Path) -> dict[str, Any]:
    """A JSON object that our process writes in one step; empty where there is none yet."""
    try:
        content = read_json(path)
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def _take(run: Path) -> IO[str] | None:
    """The lock of a run; None on systems without. Raises UserError where a process has it."""
    if fcntl is None:
        return None
    file = open(run / "lock", "a+")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UserError("train: a training runs already: stop it first") from None
    return file


def _last_words(run: Path) -> str:
    """What a process that died has said last."""
    try:
        lines = (run / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    said = f": {lines[-1][:200]}" if lines else ""
    return f"the training process ended without a word{said}; it can go on from its last snapshot"
