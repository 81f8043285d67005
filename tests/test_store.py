"""The ledger: finished is frozen, a broken write leaves nothing behind."""

import sqlite3

import pytest

from foveate.spec import Study
from foveate.store import Store

RESULT = {
    "metrics": {"accuracy": [0.5, "fraction"], "seconds": [2.0, "s"]},
    "history": [{"epoch": 1, "test_accuracy": 0.4}, {"epoch": 2, "test_accuracy": 0.5}],
    "machine": "m",
    "versions": {"torch": "t"},
}


@pytest.fixture
def planned(tmp_path):
    store = Store(tmp_path / "results.db")
    runs = Study(seeds=(0, 1)).runs("f")
    store.plan(runs)
    yield store, [run.key for run in runs]
    store.close()


def test_a_finished_run_is_one_row_a_metric_and_frozen(planned, tmp_path):
    store, keys = planned
    assert store.start(keys[0]) == 1
    store.finish(keys[0], RESULT)
    (row,) = [row for row in store.metrics() if row["metric"] == "accuracy"]
    assert (row["run"], row["seed"], row["value"], row["unit"], row["machine"]) == (keys[0], 0, 0.5, "fraction", "m")
    assert [entry["epoch"] for entry in store.history()] == [1, 2]
    store.reset(("running", "failed", "done"))
    assert store.state(keys[0]) == "done"
    with pytest.raises(sqlite3.IntegrityError):
        store.finish(keys[0], RESULT)
    assert len(store.metrics()) == 2


def test_planning_again_changes_nothing_and_adds_what_is_new(planned):
    store, keys = planned
    store.start(keys[0])
    store.finish(keys[0], RESULT)
    store.plan(Study(seeds=(0, 1, 2)).runs("f"))
    assert store.state(keys[0]) == "done"
    assert len(store.runs()) == 9


def test_a_broken_finish_leaves_no_half(planned):
    store, keys = planned
    broken = RESULT | {"history": [{"epoch": 1, "loss": None}]}
    with pytest.raises(sqlite3.IntegrityError):
        store.finish(keys[1], broken)
    assert store.metrics() == []
    assert store.state(keys[1]) == "todo"


def test_reading_beside_the_writer_and_writing_nothing(planned, tmp_path):
    reader = Store(tmp_path / "results.db", read_only=True)
    assert len(reader.runs()) == 6
    with pytest.raises(sqlite3.OperationalError):
        reader.keep("a", 1)
    reader.close()
    with pytest.raises(ValueError, match="wanted the folder of a study"):
        Store(tmp_path / "nowhere" / "results.db", read_only=True)
