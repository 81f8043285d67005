"""The store of results: finished is frozen, a broken write leaves nothing behind."""

import sqlite3

import pytest

from foveate.spec import DataSpec, Run, Training, Variant
from foveate.store import Store

RESULT = {
    "metrics": [
        {"name": "accuracy", "unit": "fraction", "better": "higher", "value": 0.5},
        {"name": "error", "unit": "px", "better": "lower", "value": 2.0},
    ],
    "history": [{"epoch": 1, "test_accuracy": 0.4}, {"epoch": 2, "test_accuracy": 0.5}],
    "machine": "m",
    "versions": {"torch": "t"},
}


def runs(seeds):
    variants = [Variant.model_validate(name) for name in ("none", "se", "cbam")]
    return [
        Run(network="foveate:resnet8", variant=variant, data=DataSpec(), train=Training(), seed=seed, arm=variant.name)
        for seed in range(seeds)
        for variant in variants
    ]


@pytest.fixture
def planned(tmp_path):
    store = Store(tmp_path / "results.db")
    store.plan(runs(2))
    yield store, [run.key for run in runs(2)]
    store.close()


def test_a_finished_run_is_one_row_a_metric_and_frozen(planned, tmp_path):
    store, keys = planned
    assert store.start(keys[0]) == 1
    store.finish(keys[0], RESULT)
    (row,) = [row for row in store.metrics() if row["metric"] == "accuracy"]
    assert (row["run"], row["arm"], row["seed"], row["value"], row["unit"]) == (keys[0], "none", 0, 0.5, "fraction")
    assert [(row["metric"], row["better"]) for row in store.metrics()] == [("accuracy", "higher"), ("error", "lower")]
    assert [entry["epoch"] for entry in store.history()] == [1, 2]
    store.reset(("running", "failed", "done"))
    assert store.state(keys[0]) == "done"
    with pytest.raises(sqlite3.IntegrityError):
        store.finish(keys[0], RESULT)
    assert len(store.metrics()) == 2


def test_a_seed_belongs_to_the_type_of_machine_of_a_finished_run_or_of_one_that_began(planned):
    store, keys = planned
    seeds = [run["seed"] for run in store.runs()]
    first, second = [key for key, seed in zip(keys, seeds, strict=True) if seed == 0][:2]
    store.start(first, "another")
    assert store.machines() == {0: "another"}
    store.start(second)
    store.finish(second, RESULT)
    assert store.machines() == {0: "m"}


def test_planning_again_changes_nothing_and_adds_what_is_new(planned):
    store, keys = planned
    store.start(keys[0])
    store.finish(keys[0], RESULT)
    store.plan(runs(3))
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
        reader.set_meta("a", 1)
    reader.close()
    with pytest.raises(ValueError, match="wanted the folder of a study"):
        Store(tmp_path / "nowhere" / "results.db", read_only=True)
