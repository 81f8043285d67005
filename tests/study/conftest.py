"""Studies of these tests measure latencies in few rounds, and their processes are forks of one."""

import subprocess
import sys
from contextlib import ExitStack

import pytest

from foveate.cli import main
from foveate.study.forking import ForkServer


class Shared(ForkServer):
    """Stays for the next study."""

    def close(self):
        pass


@pytest.fixture(scope="session")
def servers():
    with ExitStack() as stack:
        found = {}

        def server(folder, environment, library, log):
            if library not in found:
                found[library] = Shared(folder, environment, library, subprocess.DEVNULL)
                stack.callback(ForkServer.close, found[library])
            return found[library]

        yield server


@pytest.fixture
def own_server():
    """For a test that kills it."""


@pytest.fixture(autouse=True)
def small_studies(monkeypatch, servers, request):
    monkeypatch.setattr("foveate.study.measured_costs.LATENCY_ROUNDS", 4)
    if "own_server" not in request.fixturenames:
        monkeypatch.setattr("foveate.study.local.ForkServer", servers)


@pytest.fixture
def command(monkeypatch, capsys):
    """`foveate ARGUMENTS` in this process: its status, output and errors."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["foveate", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    return call
