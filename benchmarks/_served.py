"""A studio's server as a process of its own, for the benchmarks that ask it."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
STARTING = 60.0  # seconds
ENDING = 180.0  # to write all files, on a machine that is busy


class Served:
    """`spml studio FOLDER` on a free port; a context that ends it."""

    def __init__(self, folder: Path, *more: str, threads: int = 2) -> None:
        words = [sys.executable, "-m", "spml", "studio", str(folder), "--no-browser", "--port", "0", *more]
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(threads)}
        self.log = (folder.parent / "server.log").open("a+")
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=self.log, env=environment, cwd=ROOT, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "http://" not in line:
            raise SystemExit(f"no server: {line}{self.said()}")
        self.address = next(word for word in line.split() if word.startswith("http://")).rstrip("/")
        self.client = httpx.Client(base_url=self.address, headers={"X-Studio": "1"}, timeout=STARTING)

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def said(self) -> str:
        """What the server wrote to standard error."""
        self.log.flush()
        return Path(self.log.name).read_text()[-2000:]

    def stop(self, number: int = signal.SIGINT) -> None:
        """Send a signal, and wait for the end."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(timeout=ENDING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()

    def get(self, path: str, **params: Any) -> httpx.Response:
        """Ask, and raise for every answer above 399."""
        return self.client.get(path, params=params).raise_for_status()

    def post(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """Send JSON, and raise for every answer above 399."""
        return self.client.post(path, json=content).raise_for_status().json()

    def memory(self) -> tuple[float, float]:
        """MB that the process holds now, and held at most."""
        found = {}
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(("VmRSS", "VmHWM")):
                found[line.split(":")[0]] = float(line.split()[1]) / 1024
        return found["VmRSS"], found["VmHWM"]


def stroke(
    image: str, key: str, points: Sequence[tuple[float, float]], width: float = 6, **more: Any
) -> dict[str, Any]:
    """An edit that draws."""
    one = {"id": uuid.uuid4().hex, "kind": "brush", "class": key, "width": width, "filled": False}
    return {"op": "stroke", "image": image, "stroke": {**one, "points": [list(point) for point in points]}, **more}
