"""Kill a tiny pipeline at random moments, let it go on, and compare what it leaves with a run that nobody killed.

    python benchmarks/kills.py --kills 100

The pipeline starts from tags, so it trains four networks and makes CAMs, memories, pseudo labels and predictions. It
gets SIGKILL after a random time, then the same command goes on. When it has ended, its weights, labels, lists and
figures must equal those of the run without kills, no temporary file may be left, and no process may live on. Then it
starts anew, until all kills are spent.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from spml.cli.exits import run
from spml.data.pickled import read_memory_file
from spml.data.shapes import make_shapes

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    *("network.embedding_dim=8", "train.batch_size=2", "train.crop_size=[48,48]", "train.image_size=56"),
    *("test.crop_size=[56,56]", "test.stride=[56,56]", "test.image_size=56", "num_threads=0"),
    *("train.max_iteration=4", "train.warmup_iteration=1", "train.snapshot_step=1"),
)
TOKEN = "SPML_KILLS"  # in the environment of every process of a run, also of those that a killed one started
IMPORTS = 0.1  # share of the kills that come while the process still imports


class Pipeline:
    """The command line of a pipeline from tags, and where it leaves its files."""

    def __init__(self, folder: Path) -> None:
        self.data, self.folder = folder / "data", folder
        make_shapes(self.data, 4, 2, processes=1)

    def words(self, out: Path) -> list[str]:
        lists = {"tags": "tags.txt", "classes": "classes.txt", "train_data_list": "train.txt"}
        overrides = [f"dataset.{key}={self.data / name}" for key, name in lists.items()]
        overrides.append(f"dataset.test_data_list={self.data / 'val.txt'}")
        own = ["--config", "quickstart_tag", "--cam_config", "quickstart_cam", "--data_dir", str(self.data)]
        own += ["--snapshots", str(out), "--grid", "3,3", "--gt_list", str(self.data / "train_mask.txt")]
        own += ["--device", "cpu", "--classifier", "train.max_iteration=3"]
        return [sys.executable, "-m", "spml", "run", "tag", *own, *overrides, *SMALL]

    def start(self, out: Path, *more: str) -> subprocess.Popen:
        """Start it; `more`: further words of the command line."""
        environment = os.environ | {TOKEN: str(self.folder), "OMP_NUM_THREADS": "1"}
        log = (self.folder / "log.txt").open("a")
        words = [*self.words(out), *more]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=ROOT, text=True)

    def undisturbed(self, out: Path) -> float:
        """Run it without kills; the seconds from its first stage on."""
        process = self.start(out)
        assert process.stdout is not None
        process.stdout.readline()
        begin = time.monotonic()
        process.communicate()
        if process.returncode:
            raise SystemExit(f"the pipeline failed without a kill: {(self.folder / 'log.txt').read_text()[-2000:]}")
        return time.monotonic() - begin

    def killed(self, out: Path, longest: float, draw: random.Random) -> bool:
        """Start it and kill it after up to `longest` seconds of work; false where it ended before."""
        process = self.start(out)
        assert process.stdout is not None
        if draw.random() < IMPORTS:
            time.sleep(draw.uniform(0, 2))
        else:
            process.stdout.readline()  # imports are done
            try:
                process.communicate(timeout=draw.uniform(0, longest))
            except subprocess.TimeoutExpired:
                pass
        ended = process.poll()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()  # not read to its end: what the process started may hold it open
        if ended:
            raise SystemExit(f"went on after a kill and failed: {(self.folder / 'log.txt').read_text()[-2000:]}")
        return ended is None


def contents(out: Path) -> Iterator[tuple[str, object]]:
    """What a run leaves, by its path: weights, labels, prototypes, lists and figures."""
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.suffix == ".pth" and ".state" not in path.name:
            parts = torch.load(path, map_location="cpu", weights_only=True)
            yield name, {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}
        elif path.parent.name == "semantic_prototype":
            yield name, dict(zip(("prototype", "label"), map(torch.from_numpy, read_memory_file(path)), strict=True))
        elif path.suffix in (".png", ".npy"):
            yield name, path.read_bytes()
        elif path.suffix in (".txt", ".json") and path.name != "record.json":
            yield name, path.read_text().replace(str(out), "OUT").replace(f"/{out.name}/", "/OUT/")


def differences(expected: Path, found: Path) -> list[str]:
    """Files that are not the same in two runs, or only in one."""
    one, other = dict(contents(expected)), dict(contents(found))
    wrong = [f"{name} stands in one run only" for name in sorted(one.keys() ^ other.keys())]
    for name in one.keys() & other.keys():
        a, b = one[name], other[name]
        if isinstance(a, dict) and isinstance(b, dict):
            same = a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        else:
            same = a == b
        if not same:
            wrong.append(f"{name} differs")
    return wrong


def leftovers(out: Path) -> list[str]:
    """Temporary files."""
    return [str(path.relative_to(out)) for path in out.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"]


def orphans(token: str, patience: float = 10.0) -> list[int]:
    """Processes of a run that live on, some seconds after its end; those of this process excepted."""
    end = time.monotonic() + patience
    while True:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"{TOKEN}={token}".encode() in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:  # gone, or another user's
                continue
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.2)


def torture(kills: int, seed: int, folder: Path) -> dict[str, object]:
    """Kill until `kills` are spent; what went wrong, and in which stages the kills came."""
    pipeline, draw = Pipeline(folder), random.Random(seed)
    reference, out = folder / "undisturbed", folder / "killed"
    seconds = pipeline.undisturbed(reference)
    spent, runs, wrong = 0, 0, list[str]()
    while spent < kills:
        shutil.rmtree(out, ignore_errors=True)
        while spent < kills and pipeline.killed(out, seconds, draw):
            spent += 1
        pipeline.undisturbed(out)
        runs += 1
        wrong += differences(reference, out)
        wrong += [f"temporary file {name}" for name in leftovers(out)]
        wrong += [f"process {pid} lives on" for pid in orphans(str(folder))]
        print(f"{spent} kills, {runs} runs, {len(wrong)} faults", flush=True)
    return {"kills": spent, "runs": runs, "seconds of work": round(seconds, 1), "faults": wrong}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        result = torture(args.kills, args.seed, Path(folder))
    print("\n".join(f"{name}: {value}" for name, value in result.items()))
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    run(main)
