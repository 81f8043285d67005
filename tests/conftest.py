"""What every test stands on: fixed randomness, poisoned memory, and the shared real data where it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from golden import SHARED


@pytest.fixture(autouse=True)
def seeded_and_poisoned() -> Iterator[None]:
    """Fixed randomness; torch.empty holds NaN, so memory a kernel forgets to write shows in the result."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden numbers beside the project; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the shared data folder beside the project (../shared)")
    return SHARED
