"""What all tests share: a fixed seed, few threads, and the folder of reference data where there is one."""

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> None:
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the repository, with parity numbers and real photographs."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder 'shared' beside the repository (parity numbers and photographs)")
    return SHARED
