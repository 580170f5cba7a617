"""Memory that stays with the process changes no number, and nothing at all where the C library has no such option."""

import ctypes
import subprocess
import sys

from spml import allocator

PAGES = """
import resource, torch
from spml.allocator import keep_memory
kept = keep_memory()
torch.set_num_threads(1)
a = torch.ones(1 << 24)
for _ in range(8):
    (a + 1).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(16):
    assert float((a + 1).mean()) == 2
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_blocks_are_taken_again():
    """In a process of its own: 16 rounds of 64 MB would be 262,144 pages."""
    done = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    assert kept == "False" or int(faults) < 131072


def test_another_c_library(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert allocator.keep_memory() is False
