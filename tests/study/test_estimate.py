"""How long a study takes, told before it starts; and the note where its plain network is at chance."""

from dataclasses import replace

import pytest

from foveate.data import open_data
from foveate.spec import DataSpec, Run, Study, Training, Variant
from foveate.study import estimate
from foveate.study.analyse import analyse
from foveate.study.estimate import STARTING_S, in_words, training_seconds
from foveate.study.results import _at_chance
from foveate.summary import Arm, Score, Setting
from foveate.tasks import create_task

COSTS = {"none": {"train_step_ms": 320.0, "latency_ms": 160.0}}


@pytest.fixture
def digits():
    return open_data(DataSpec(train_items=60, test_items=30))


def runs_of(count, **train):
    values = {"arm": "none", "network": "foveate:resnet8", "variant": Variant(), "data": DataSpec()}
    return [Run(**values, train=Training(**train), seed=seed) for seed in range(count)]


def test_the_estimate_is_steps_reading_and_evaluation_shared_by_the_jobs(digits, monkeypatch):
    monkeypatch.setattr(estimate, "reading_seconds", lambda *_, **__: 0.1)
    study = Study(train=Training(epochs=5, batch_size=20))
    one_run = STARTING_S + 5 * (3 * (20 * 0.010 + 0.1) + 30 * 0.005) + 30 * 0.005  # batches of 32 were measured
    assert training_seconds(study, digits, runs_of(4, epochs=5, batch_size=20), COSTS, 32, 2) == pytest.approx(
        2 * one_run
    )
    assert training_seconds(study, digits, [], COSTS, 32, 2) == 0


def test_there_is_none_for_a_trainer_of_ones_own_or_without_measured_costs(digits):
    assert training_seconds(Study(trainer="my.py:train"), digits, runs_of(1), COSTS, 32, 1) is None
    assert training_seconds(Study(), digits, runs_of(1), {"none": {"latency_ms": 1.0}}, 32, 1) is None


def test_reading_counts_every_item_of_the_batch(digits):
    few, many = (estimate.reading_seconds(digits, items, augment=True) for items in (1, 6000))
    assert 0 < few < many


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "about 10 seconds"), (84, "about 80 seconds"), (100, "about 2 minutes"), (5400, "about 1.5 hours")],
)
def test_seconds_in_words(seconds, text):
    assert in_words(seconds) == text


def summary_of(scores, about):
    setting = Setting(name="s", network="n", seeds=(0, 1, 2), control="none", epochs=1)
    metrics = create_task("classification", open_data(DataSpec(train_items=20, test_items=20))).metrics
    arms = [Arm("none", "plain", {}, 1.0, ()), Arm("se", "attention", {"attention": "se"}, 1.0, ())]
    rows = [Score(arm.label, seed, "accuracy", value) for arm in arms for seed, value in enumerate(scores)]
    return replace(analyse(setting, metrics, arms, rows), about=about)


def test_a_plain_network_that_learned_nothing_is_noted():
    (note,) = _at_chance(summary_of([0.52, 0.49, 0.5], {"chance": {"accuracy": 0.5}}))
    assert note.startswith(
        "the plain network (50.3 %) is not distinguishable from always giving the most frequent class"
    )
    assert _at_chance(summary_of([0.91, 0.92, 0.93], {"chance": {"accuracy": 0.5}})) == []
    assert _at_chance(summary_of([0.5, 0.5, 0.5], {"chance": {}})) == []


@pytest.mark.parametrize(("task", "chance"), [("classification", {"accuracy": 0.1}), ("regression", {})])
def test_chance_is_the_share_of_the_most_frequent_class_where_the_task_is_to_classify(digits, task, chance):
    assert create_task(task, digits).baseline()[1] == chance
