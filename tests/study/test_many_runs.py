"""A small run of benchmarks/many_runs.py: a simulated executor whose workers die."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture
def many_runs():
    path = Path(__file__).parents[2] / "benchmarks" / "many_runs.py"
    spec = importlib.util.spec_from_file_location("many_runs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_run_is_done_once_whichever_workers_die(many_runs, tmp_path):
    found = many_runs.plan_and_simulate(tmp_path, 2, 100, workers=20)
    assert found["every_run_done_once"]
    assert found["deaths"] == 2
    assert found["given"] == 202
