"""Each benchmark runs, at its small size: what it measures then means nothing, and what it checks must hold."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
QUICK = ["--quick", "--threads", "1", "--repeat", "1"]


@pytest.fixture
def benchmark(monkeypatch):
    """Import a script of benchmarks/ as it imports its neighbours; threads stay as they were."""
    threads = torch.get_num_threads()
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (FOLDER / f"{name}.py").exists():
            del sys.modules[name]
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ("kmeans", "loader", "loss", "random_walk", "regularisers", "retrieval", "step"))
def test_runs(benchmark, capsys, name):
    benchmark(name).main(QUICK)
    printed = capsys.readouterr().out
    assert "ratio" in printed or "images/s" in printed


@pytest.mark.slow
def test_bounds_of_kmeans_change_no_pixel(benchmark, capsys):
    benchmark("kmeans").main([*QUICK, "--bounds"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("a bound a pixel")]
    assert len(lines) == 4 and all("100.000 % equal" in line for line in lines)


def test_profile_of_a_step(benchmark, capsys):
    """Every part is named, parts add up to the step, and a config's own overrides are read."""
    benchmark("step").main([*QUICK, "--profile", "train.batch_size=3", "losses.semantic_cooccurrence=none"])
    printed = capsys.readouterr().out
    assert "batch 3, crop 64 x 64" in printed and "semantic_cooccurrence" not in printed
    lines = [line for line in printed.split("profile of a step")[1].splitlines() if line]
    times = {line[:36].strip(): float(line[36:].split()[0]) for line in lines}
    assert {"clustering", "transfer of labels", "image_similarity", "network forward", "optimizer"} <= set(times)
    assert times.pop("the step") == pytest.approx(sum(times.values()) - times.pop("SPML's own parts"), abs=1)


@pytest.mark.slow
def test_steps_of_every_regulariser(benchmark, capsys):
    benchmark("regularisers").main([*QUICK, "--steps"])
    printed = capsys.readouterr().out
    for name in (
        "SPML, the released relations",
        "entropy",
        "gated_crf",
        "kernel_cut",
        "gaussian_mixture",
        "maps by ppc",
    ):
        assert len([line for line in printed.splitlines() if line.startswith(name)]) == 2, name
    assert "cross_entropy  " not in printed and "image_similarity" not in printed  # these need segments, or are plain


def test_the_network_alone(benchmark, capsys):
    more = ["--network", "--backbone", "panoptic_deeplab_tiny", "--runtimes", "folded,torch,onnx"]
    benchmark("inference").main([*QUICK, *more])
    printed = capsys.readouterr().out
    assert "folded, 100.0000 % of pixels the same" in printed and "torch, 100.0000 %" in printed


@pytest.mark.slow
@pytest.mark.parametrize("name", ("crf", "exchange", "inference", "scale"))
def test_runs_with_processes(benchmark, capsys, name):
    if name == "crf":
        pytest.importorskip("pydensecrf")
    tiny = ["--backbone", "panoptic_deeplab_tiny", "--images", "1", "--runtimes", "folded,torch"]
    tiny = tiny if name == "inference" else []
    benchmark(name).main([*QUICK, *tiny])
    assert ("folded, 100.000 % of pixels the same" if name == "inference" else "process") in capsys.readouterr().out


def test_the_index_over_sizes(benchmark, capsys):
    pytest.importorskip("faiss")
    benchmark("index").main(QUICK)
    assert "4,000 moved" in capsys.readouterr().out


def test_derived_bytes_of_two_processes(benchmark):
    """557 bytes a segment for the gather, and 2 x 256 for the gradient of both processes' rows."""
    assert benchmark("exchange").derive(100, 2) == 100 * (557 + 2 * 256)


def test_peak_memory_counts_what_is_held_at_a_time(benchmark):
    measure = benchmark("_measure")

    def call():
        first = torch.empty(1 << 18)
        del first
        return torch.empty(1 << 19), torch.empty(1 << 18)

    assert measure.peak_memory(call, torch.device("cpu")) == 4 * 3 * (1 << 18)
