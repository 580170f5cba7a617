"""The studio's benchmarks at small sizes: what they measure then means nothing, what they check must hold."""

import importlib
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx")

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a script of benchmarks/ as it imports its neighbours."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (FOLDER / f"{name}.py").exists():
            del sys.modules[name]


@pytest.mark.slow
def test_ten_kills_lose_nothing(script: Any, capsys: pytest.CaptureFixture) -> None:
    assert script("studio").main(["--kills", "10"]) == 0
    assert "faults: []" in capsys.readouterr().out


@pytest.mark.slow
def test_hostile_requests(script: Any, capsys: pytest.CaptureFixture) -> None:
    assert script("studio").main(["--hostile", "60"]) == 0
    assert "requests: 60" in capsys.readouterr().out


def test_the_simulated_user_draws_in_the_largest_wrong_region(script: Any) -> None:
    user = script("_studio_user")
    target = np.zeros((40, 60), np.uint8)
    target[:, 20:] = 1
    target[:5, :5] = 255
    label, nothing = np.zeros_like(target), np.full_like(target, 254)
    first = user.next_stroke(label, target, nothing, np.random.default_rng(0))
    assert set(np.unique(first)) == {1, 254} and (target[first == 1] == 1).all()
    label[:, 20:] = 1
    assert user.next_stroke(label, target, first, np.random.default_rng(0)) is first  # nothing is wrong any more
    label[:, :10] = 1
    second = user.next_stroke(label, target, first, np.random.default_rng(0))
    assert set(np.unique(second[:, :10])) == {0, 254} and (second[:, 20:] == first[:, 20:]).all()


def test_the_simulated_sitting_counts_as_it_should(script: Any, tiny_data: Path) -> None:
    """A way that labels by the strokes' classes alone: with a stroke of each class all is right or wrong as counted."""
    from spml.data.lists import read_list

    user = script("_studio_user")

    class Perfect:
        kept = 0

        def label(self, image: np.ndarray, strokes: np.ndarray, name: str) -> np.ndarray | None:
            said = np.unique(strokes[strokes < 254])
            return None if len(said) == 0 else np.full(strokes.shape, said[0], np.uint8)

        def keep(self, image: np.ndarray, strokes: np.ndarray, name: str) -> None:
            self.kept += 1

    way = Perfect()
    found = user.simulate(way, read_list(tiny_data / "val.txt", tiny_data, columns=2)[:2], 4, 2)
    assert len(found) == 3 and found[0] == 0 and 0 < found[1] < 100 and way.kept == 2


def test_hostile_requests_are_many_kinds(script: Any) -> None:
    attacks = script("_studio_hostile")
    draw = random.Random(0)
    found = {attacks.request(draw, 80)[:60] for _ in range(60)}
    assert len(found) > 40 and any(one.startswith(b"POST") for one in found)
