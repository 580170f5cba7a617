"""Shares of a list, hashes that several processes read, what a restart reads again, and the packed memory."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from spml import records
from spml.data import waiting
from spml.data.listed import ListedSamples, only, places_with, take
from spml.data.lists import check_unique_names, read_list
from spml.data.samples import DataError, Sample
from spml.errors import UserError
from spml.inference import packed, shares
from spml.inference.memory import fill_memory, index_file, read_memory
from spml.inference.segmenter import Segmenter
from spml.inference.shares import hash_list, hash_samples, owner_of, owners
from spml.inference.views import ViewPlan
from spml.ledger import Ledger
from spml.models import build_embedding_model
from spml.processes import all_do
from spml.propagate import retrieve

ROOT = Path(__file__).resolve().parents[1]
OLD = time.time() - 1000


@pytest.fixture
def samples(tiny_config):
    return read_list(tiny_config.dataset.train_data_list, tiny_config.dataset.data_dir)


@pytest.fixture
def own(tmp_path, tiny_data):
    """A list of four samples of its own, whose files are old enough for a ledger."""
    for number in range(4):
        for kind in ("image", "weak"):
            (tmp_path / kind).mkdir(exist_ok=True)
            path = tmp_path / kind / f"{number}.png"
            path.write_bytes((tiny_data / kind / f"{number}.png").read_bytes())
    (tmp_path / "list.txt").write_text("".join(f"image/{number}.png weak/{number}.png\n" for number in range(4)))
    return read_list(tmp_path / "list.txt", tmp_path)


@pytest.fixture
def later(monkeypatch):
    """The clock of the ledger stands later: files that were written just now are old."""
    now = time.time() + 10
    monkeypatch.setattr(shares.time, "time", lambda: now)


def test_a_share_follows_from_the_name_alone(samples, monkeypatch):
    monkeypatch.setattr(shares, "world_size", lambda: 3)
    whose = dict(zip((sample.name for sample in samples), owners(samples), strict=True))
    reverse = take(samples, range(7, -1, -1))
    assert dict(zip((sample.name for sample in reverse), owners(reverse), strict=True)) == whose
    assert whose["5"] == owner_of("5", 3) and set(whose.values()) <= {0, 1, 2}
    count = np.bincount([owner_of(f"image {number}", 64) for number in range(64_000)], minlength=64)
    assert abs(count - 1000).max() < 6 * 1000**0.5  # as evenly as by chance


def test_listed_samples_are_those_of_the_lines(samples, tiny_data):
    assert isinstance(samples, ListedSamples) and len(samples) == 8
    assert [sample.name for sample in samples[2:6:2]] == ["2", "4"] and samples[-1].name == "7"
    assert samples[np.int64(3)].regions == tiny_data / "region" / "3.png" and samples[3].line == 4
    without = only(samples[1:], "label")
    assert without[0].label == tiny_data / "weak" / "1.png" and without[0].regions is None
    assert places_with(without, "regions") == [] and len(places_with(without, "label")) == 7
    plain = [Sample(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8), name="a")]
    assert only(plain)[0].label is None and only(plain, "label")[0].label is not None
    assert places_with([*plain, *only(plain)], "label") == [0]
    with pytest.raises(IndexError):
        samples[8]
    check_unique_names(samples)


def test_the_hash_of_a_list_is_the_one_that_records_have(samples):
    ordered = sorted(samples, key=lambda sample: sample.name)
    parts = [part for one in ordered for part in (one.image, one.label, one.regions)]
    expected = records.hash_json([[one.name for one in ordered], records.hash_files(parts)])
    assert hash_samples(samples) == hash_samples(list(samples)) == expected == hash_list(samples, Ledger(None))
    array = Sample(np.zeros((2, 2, 3), np.uint8), name="a")
    assert hash_samples([array]) == records.hash_json([["a"], records.hash_files([array.image])])


def test_a_restart_reads_only_what_has_changed(own, tmp_path, monkeypatch, later):
    first = hash_list(own, Ledger(tmp_path / "ledger"))
    assert [path.name for path in (tmp_path / "ledger").iterdir()] == ["all.hashes"]
    read = []
    monkeypatch.setattr(shares, "_hash", lambda part, hash_of=shares._hash: read.append(part) or hash_of(part))
    assert hash_list(take(own, [3, 1, 0, 2]), Ledger(tmp_path / "ledger")) == first and not read
    own[2].image.write_bytes(own[1].image.read_bytes())
    assert hash_list(own, Ledger(tmp_path / "ledger")) not in ("", first)
    assert {part for part in read if part is not None} == {own[2].image, own[2].label}
    read.clear()
    (tmp_path / "ledger" / "all.hashes").write_bytes(b"damaged")
    hash_list(own, Ledger(tmp_path / "ledger"))
    assert len(read) == 4 * 3


def test_files_that_were_written_just_now_are_read_again(own, tmp_path):
    hash_list(own, Ledger(tmp_path / "ledger"))
    assert not (tmp_path / "ledger").exists()


def test_a_killed_process_leaves_what_it_has_read(own, tmp_path, monkeypatch, later):
    monkeypatch.setattr("spml.ledger.EVERY", -1.0)
    for module in (shares, waiting):
        monkeypatch.setattr(module, "THREADS", 1)
        monkeypatch.setattr(module, "BLOCK", 1)
    read = []

    def one(part, hash_of=shares._hash):
        if len(read) == 3 * 3:
            raise KeyboardInterrupt
        read.append(part)
        return hash_of(part)

    monkeypatch.setattr(shares, "_hash", one)
    with pytest.raises(KeyboardInterrupt):
        hash_list(own, Ledger(tmp_path / "ledger"))
    assert [path.name for path in (tmp_path / "ledger").iterdir()] == ["0.hashes"]
    monkeypatch.setattr(shares, "_hash", lambda part: read.append(part) or 1)
    hash_list(own, Ledger(tmp_path / "ledger"))
    assert len(read) == 4 * 3 and [path.name for path in (tmp_path / "ledger").iterdir()] == ["all.hashes"]


def test_missing_files_are_counted(own, tmp_path, later):
    own[1].image.unlink()
    own[3].label.unlink()
    with pytest.raises(DataError, match=r"line 2: no file .*image/1.png \(2 of the list's 8 files are missing\)"):
        hash_list(own, Ledger(tmp_path / "ledger"))


def test_all_do_in_one_process():
    assert all_do(lambda: 3) == [3]

    def fail():
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        all_do(fail)


@pytest.fixture
def memory(tiny_config, samples, tmp_path):
    model = build_embedding_model(tiny_config).eval()
    segmenter = Segmenter.from_config(tiny_config, model, ViewPlan.from_config(tiny_config), torch.device("cpu"))
    return lambda chosen=samples, **more: fill_memory(tiny_config, chosen, segmenter, tmp_path / "out", **more)


def test_the_packed_memory_is_the_memory(memory, samples, tmp_path):
    memory()
    prototype, label = read_memory(tmp_path / "out", 4, 8)
    files = tmp_path / "out" / "semantic_prototype"
    single, single_label = read_memory(files, 4, 8)  # given the folder itself, it is packed as well
    (tmp_path / "out" / packed.FOLDER).rename(tmp_path / "away")
    read, read_label = read_memory(tmp_path / "out", 4, 8)
    assert torch.equal(prototype, read) and torch.equal(label, read_label) and torch.equal(single, read)
    assert torch.equal(single_label, read_label) and label.dtype == torch.long and len(label) > 8
    assert index_file(tmp_path / "out") is None
    memory()  # nothing is new, and yet it is packed again
    assert index_file(tmp_path / "out") == tmp_path / "out" / packed.FOLDER / "index.faiss"
    (tmp_path / "out" / packed.FOLDER / "index.faiss").touch()
    memory(samples[:4], overwrite=True)
    fewer, _ = read_memory(tmp_path / "out", 4, 8)
    assert len(fewer) < len(prototype) and not (tmp_path / "out" / packed.FOLDER / "index.faiss").exists()
    origin = tmp_path / "out" / packed.FOLDER / "origin.json"
    origin.write_text(origin.read_text().replace('"memory": "', '"memory": "x'))  # of another memory
    assert torch.equal(read_memory(tmp_path / "out", 4, 8)[0], fewer)
    memory(samples[:4])
    (tmp_path / "out" / packed.FOLDER / "prototype.npy").write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot read .*semantic_packed.*remove it"):
        read_memory(tmp_path / "out", 4, 8)


def test_an_index_is_kept(tmp_path):
    pytest.importorskip("faiss")
    from spml.propagate.approximate import ApproximateMemory

    rows = torch.nn.functional.normalize(torch.randn(500, 8), dim=1)
    label = torch.arange(500)
    made = ApproximateMemory(rows, label, probed=1, file=tmp_path / "index")
    kept = ApproximateMemory(rows, label, probed=1, file=tmp_path / "index")
    expected = retrieve(rows[:5], rows, label, 4)[0]
    assert torch.equal(made.retrieve(rows[:5], 4)[0], expected) and torch.equal(kept.retrieve(rows[:5], 4)[0], expected)
    assert len(ApproximateMemory(rows[:400], label[:400], file=tmp_path / "index").label) == 400
    (tmp_path / "index").write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot read the index .*: remove the file|cannot read the index"):
        ApproximateMemory(rows, label, file=tmp_path / "index")


# Each process notes what it does; one of them is killed in the middle, once.
PROGRAM = """
import os, signal, sys
from pathlib import Path
import torch
from spml.cli.exits import run
from spml.config import load_config
from spml.data.lists import read_list
from spml.inference.loop import Job, go_through
from spml.processes import rank, say, shared_work, world_size

def main():
    torch.set_num_threads(1)
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    config = load_config(folder / "config.yaml")
    samples = read_list(sys.argv[3], config.dataset.data_dir)

    def work(read, refiner):
        if rank() == 1 and not (folder / "killed").exists() and (folder / "log.1").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (out / f"{read.name}.txt").touch()
        with open(folder / f"log.{rank()}", "a") as file:
            file.write(f"{read.name} of {world_size()}\\n")
        return "done"

    with shared_work(torch.device("cpu")):
        done = go_through(config, samples, Job("files", {}, lambda name: f"{name}.txt", ("*.txt",), work), out)
        say(f"{done.images} images, {done.new} new, words {done.words['done']}")

if __name__ == "__main__":
    run(main)
"""


@pytest.fixture
def program(tmp_path, tiny_config):
    from spml.config import save_config

    (tmp_path / "program.py").write_text(PROGRAM)
    save_config(tiny_config, tmp_path / "config.yaml")

    def start(processes: int, *more: str, data_list: str = tiny_config.dataset.train_data_list) -> str:
        words = ["--standalone", "--nproc_per_node", str(processes), *more]
        words += [str(tmp_path / "program.py"), str(tmp_path), str(tmp_path / "out"), data_list]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "torch.distributed.run", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.stdout + (done.stderr if done.returncode else "")

    return start


def done_by(folder: Path) -> dict[str, int]:
    """How often each image was done."""
    lines = [line for path in folder.glob("log.*") for line in path.read_text().splitlines()]
    return Counter(line.split()[0] for line in lines)


@pytest.mark.slow
def test_a_killed_process_starts_again_and_nothing_is_done_twice(program, tmp_path, tiny_data):
    printed = program(2, "--max-restarts", "1")
    assert (tmp_path / "killed").exists() and "8 images, " in printed, printed
    assert done_by(tmp_path) == {str(number): 1 for number in range(8)}
    record = records.read(tmp_path / "out")
    assert record.complete and record.notes["images"] == 8
    for number in (1, 5, 6):
        (tmp_path / "out" / f"{number}.txt").unlink()
    (tmp_path / "turned.txt").write_text("\n".join(reversed((tiny_data / "train.txt").read_text().splitlines())))
    printed = program(3, data_list=str(tmp_path / "turned.txt"))  # more processes, another order
    assert "8 images, 3 new, words 3" in printed, printed
    assert done_by(tmp_path) == {str(number): 2 if number in (1, 5, 6) else 1 for number in range(8)}


@pytest.mark.slow
def test_a_missing_file_of_one_share_is_one_line(program, tmp_path, tiny_data):
    text = (tiny_data / "train.txt").read_text().replace("weak/6.png", "weak/none.png")
    (tmp_path / "list.txt").write_text(text)
    printed = program(2, data_list=str(tmp_path / "list.txt"))
    assert printed.count("error: ") == 1 and "line 7: no file" in printed, printed
    assert not (tmp_path / "out" / "record.json").exists()
