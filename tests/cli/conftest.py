"""The command line runs in the tests' own process."""

import sys

import pytest

from foveate.attention import ATTENTION
from foveate.data.dataset import KINDS
from foveate.networks import NETWORKS
from foveate.registry import USER_MODULE
from foveate.tasks import TASKS


@pytest.fixture(autouse=True)
def users_files_end_with_their_test(monkeypatch):
    """What a user's file registers in a test is unknown in the next."""
    for registry in (ATTENTION, KINDS, NETWORKS, TASKS):
        registry.names()  # imports the library's own, which are there before and after
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    yield
    for name in [name for name in sys.modules if name.startswith(USER_MODULE)]:
        del sys.modules[name]
