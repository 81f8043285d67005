"""Values chosen on the validation part: which run stands for an arm and a seed, and a study that lists values."""

import json

import pytest
from in_process import run, small

from foveate import load
from foveate.report import numbers, write_report
from foveate.spec import Metric, Training
from foveate.store import Store
from foveate.study import status, summarise
from foveate.study.trained import load_run
from foveate.study.tuning import listed_values, standing_runs, tuning
from foveate.training import validation_name

ACCURACY, ERROR = Metric("accuracy"), Metric("error", "px", "lower")
LISTED = (0.001, 0.01, 0.1)


def rows(states, names=("none", "se"), seeds=(0, 1)):
    """Runs of each arm, seed and learning rate, "se1-0.01" and so on; states: of those that are not done."""
    return {
        (key := f"{arm}{seed}-{lr}"): {
            "key": key,
            "arm": arm,
            "seed": seed,
            "state": states.get(key, "done"),
            "spec": json.dumps({"train": Training(lr=lr).model_dump()}),
        }
        for arm in names
        for seed in seeds
        for lr in LISTED
    }


def test_the_best_on_the_validation_part_stands_for_its_arm_and_seed_and_the_first_of_equal_ones():
    runs = rows({"se1-0.1": "failed"}, names=("none", "se"))
    scores = {key: 0.5 for key in runs if runs[key]["state"] == "done"}
    scores |= {"none0-0.01": 0.7, "none1-0.1": 0.6, "se0-0.1": 0.9}
    assert list(standing_runs(runs, scores, ACCURACY)) == ["none0-0.01", "none1-0.1", "se0-0.1", "se1-0.001"]
    assert list(standing_runs(runs, scores, ERROR))[:2] == ["none0-0.001", "none1-0.001"]
    assert listed_values(["lr"], runs)["se0-0.1"] == {"lr": 0.1}


def test_nothing_is_chosen_before_every_value_was_tried_and_where_all_failed_the_seed_failed():
    runs = rows({"none0-0.1": "todo", "se0-0.001": "failed", "se0-0.01": "failed", "se0-0.1": "failed"})
    scores = {key: 0.5 for key in runs if runs[key]["state"] == "done"}
    standing = standing_runs(runs, scores, ACCURACY)
    assert [row["state"] for row in standing.values()] == ["todo", "done", "failed", "done"]


def test_a_study_without_lists_has_one_run_for_each_arm_and_seed_whatever_its_state():
    runs = {key: row for key, row in rows({"none0-0.01": "todo", "se1-0.01": "failed"}).items() if "0.01" in key}
    assert list(standing_runs(runs, {}, ACCURACY)) == list(runs)
    assert tuning((), runs, {}, ACCURACY, 10) is None


def test_what_was_tried_is_told_with_choices_at_an_end_of_the_list():
    runs = rows({"se1-0.1": "failed"})
    scores = {key: 0.5 for key in runs if runs[key]["state"] == "done"}
    scores |= {"none0-0.1": 0.9, "none1-0.1": 0.8, "se0-0.01": 0.7, "se1-0.001": 0.6}
    found = tuning(["lr"], runs, scores, ACCURACY, 40)
    assert found.text == (
        "chosen in each network and seed by accuracy on 40 validation items: lr from 0.001, 0.01 and 0.1"
    )
    none, se = found.arms
    assert none.text == "lr 0.1 (2 of 2 seeds)"
    assert none.at_an_end == (
        "none: lr 0.1, the largest of its list, was chosen in 2 of 2 seeds; a larger one may do better"
    )
    assert se.text == "lr 0.001 (1 of 2 seeds), lr 0.01 (1 of 2 seeds)"
    assert se.at_an_end == ""
    assert [one.failed for one in se.tried] == [(), (), (1,)]
    assert se.tried[2].score.seeds == (0,)


@pytest.fixture(scope="module")
def study():
    train = {"lr": [0.005, 1e-7], "batch_size": 20, "optimizer": "adamw", "early_stop": 1, "epochs": 4}
    return small("se", seeds=1, items=100, train=Training.model_validate(train))


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    run(study, folder)
    return folder


def test_a_study_that_lists_values_reports_the_chosen_runs_alone(study, folder):
    summary = summarise(folder)
    store = Store(folder / "results.db", read_only=True)
    measured = store.metrics()
    store.close()
    assert len({row["run"] for row in measured}) == 4
    for arm, tried in zip(summary.arms, summary.tuning.arms, strict=True):
        scores = [one.score.mean for one in tried.tried]
        best = scores.index(max(scores))
        assert [bool(one.chosen) for one in tried.tried] == [place == best for place in range(2)]
        (row,) = [
            row
            for row in measured
            if row["arm"] == arm.label and row["metric"] == validation_name("accuracy") and row["value"] == max(scores)
        ][:1]
        (accuracy,) = [one["value"] for one in measured if one["run"] == row["run"] and one["metric"] == "accuracy"]
        assert arm.score.values == (accuracy,)
        assert load_run(folder, arm=arm.label).run.train.lr == tried.tried[best].values["lr"]
    assert {metric.name for metric in summary.metrics} == {"accuracy", "loss", "top5", "epochs", "seconds"}
    assert not any(name.startswith("test_") for curves in summary.curves.values() for name in curves)
    assert load(folder, arm="se").training is False


def test_its_page_table_and_state_show_every_value_and_the_epochs_that_ran(study, folder, tmp_path):
    summary = summarise(folder)
    write_report(summary, tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "Choice of lr" in page
    assert "90 training, 10 validation and 40 test items" in page
    assert "chosen in 1 seed" in page
    assert f"{numbers.epochs(summary.setting)}, 1 seed" in page
    head, *lines = (tmp_path / "table.csv").read_text().splitlines()
    assert "validation_accuracy_lr=1e-07_percent,seeds_chosen_lr=1e-07" in head
    assert len(lines) == 2
    assert json.loads((tmp_path / "summary.json").read_text())["tuning"]["names"] == ["lr"]
    assert [one["values"] for one in status(folder)["runs"]] == [{"lr": 0.005}, {"lr": 1e-7}] * 2


def test_a_list_cannot_be_changed_after_the_fact(study, folder):
    train = Training.model_validate({**study.train.model_dump(), "lr": [0.005, 1e-7, 0.1]})
    with pytest.raises(ValueError, match=r"train.lr: \[0.005, 1e-07\] there, \[0.005, 1e-07, 0.1\] now"):
        run(study.model_copy(update={"train": train}), folder)


def test_a_metric_that_a_trainer_alone_measures_cannot_choose(tmp_path):
    (tmp_path / "mine.py").write_text("def train(model, context):\n    return {}\n")
    train = Training.model_validate({"lr": [0.1, 0.2]})
    study = small(train=train, trainer=f"{tmp_path}/mine.py:train", metric=Metric("map50"))
    with pytest.raises(
        ValueError, match="train.lr: a list is chosen from by the task's metrics on the validation part"
    ):
        run(study, tmp_path / "out")
