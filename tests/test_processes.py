"""Pools of processes, Ctrl-C, and processes that share work."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spml.processes import barrier, deaf_children, gather, local_size, pool, rank, shared_work, world_size

ROOT = Path(__file__).parents[1]


def is_deaf():
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()) or (
        signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    )


class Seen:
    """Says, once it is unpickled in another process, whether that was deaf by then: before any initializer."""

    def __init__(self, deaf=None):
        self.deaf = deaf

    def __reduce__(self):
        return _unpickled, ()


def _unpickled():
    return Seen(is_deaf())


STARTED: list[bool] = []  # in a process of a pool


def begin(seen):
    STARTED.append(seen.deaf)


def report(folder, processes):
    """What this process knows of itself, once so many are at work."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < processes and time.monotonic() < deadline:
        time.sleep(0.01)
    return os.getpid(), STARTED, is_deaf()


def test_children_begin_deaf_and_the_parent_hears_again():
    code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    with deaf_children():
        child = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "True" and not is_deaf()
    with pytest.raises(KeyError), deaf_children():
        raise KeyError
    assert not is_deaf()


def test_a_ctrl_c_meanwhile_is_heard_afterwards():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(True))
    try:
        with deaf_children():
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            assert not heard
        assert heard == [True]
    finally:
        signal.signal(signal.SIGINT, before)


def test_every_process_of_a_pool_begins_deaf_whenever_it_starts(tmp_path):
    with pool(2, begin, [Seen()]) as executor:
        first, *told = executor.submit(report, tmp_path, 1).result()  # one process, idle from now on
        assert told == [[True], True]
        others = [executor.submit(report, tmp_path, 2) for _ in range(2)]  # the second one starts only here
        assert {one.result()[1:] == ([True], True) for one in others} == {True}
        assert {one.result()[0] for one in others} > {first}


def test_an_error_cancels_what_is_not_begun():
    with pytest.raises(KeyError), pool(1, method="fork") as executor:
        slow = [executor.submit(time.sleep, 0.2) for _ in range(9)]
        slow[0].result()
        raise KeyError
    assert slow[-1].cancelled()


def test_a_pool_ends_with_its_parent():
    code = """
import os, time
from spml.processes import pool
if __name__ == "__main__":
    with pool(1, method="fork") as executor:
        print(executor.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{child}") and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the process of the pool lives on"
        time.sleep(0.05)


def test_a_run_of_one_process():
    assert (rank(), world_size(), local_size(), gather("a")) == (0, 1, 1, ["a"])
    barrier()
    with shared_work("device") as device:
        assert device == "device"


SHARED = """
import sys, torch
from spml.errors import UserError
from spml.processes import barrier, gather, local_size, rank, shared_work, world_size
with shared_work(torch.device("cpu")) as device:
    seen = gather((rank(), world_size(), local_size(), str(device)))
    barrier()
    if rank() == 0:
        print(seen, flush=True)
    if rank() == int(sys.argv[1]):
        print("error: it", file=sys.stderr, flush=True)
        raise SystemExit(3)
    barrier()
"""


@pytest.mark.slow
@pytest.mark.parametrize("failing", [-1, 0, 1])
def test_two_processes(tmp_path, failing):
    (tmp_path / "shared.py").write_text(SHARED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(tmp_path / "shared.py"), str(failing)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert "[(0, 2, 2, 'cpu'), (1, 2, 2, 'cpu')]" in done.stdout
    assert (done.returncode == 0) == (failing == -1)
    assert done.stderr.count("error: it") == (failing != -1)
    assert 'shared.py", line' not in done.stderr  # no process shows a traceback


@pytest.mark.slow
def test_processes_end_with_torchrun(tmp_path):
    code = """
import os, time, torch
from pathlib import Path
from spml.processes import join, rank
join(torch.device("cpu"))
Path(f"{__file__}.{os.getpid()}.pid").touch()
time.sleep(60)
"""
    (tmp_path / "sleep.py").write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, str(tmp_path / "sleep.py")], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while len(pids := list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    own = [int(path.name.split(".")[-2]) for path in pids]
    while any(Path(f"/proc/{pid}").exists() for pid in own):
        assert len(own) == 2 and time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_ctrl_c_ends_the_drawing_in_one_line(tmp_path):
    words = ["--save_dir", str(tmp_path), "--num_train", "2000", "--processes", "2"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "pyscripts/data/shapes.py"), *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("image/*.png")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.endswith("interrupted\n") and "Traceback" not in err
