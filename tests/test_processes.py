"""Ctrl-C and pools of processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spml.processes import deaf_children

ROOT = Path(__file__).parents[1]


def test_children_begin_deaf_and_the_parent_hears_again():
    before = signal.getsignal(signal.SIGINT)
    code = "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    with deaf_children():
        child = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "True"
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyError), deaf_children():
        raise KeyError
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_leave_signals_alone():
    seen = []

    def work():
        with deaf_children():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


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
