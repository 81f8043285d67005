"""A trainer of one's own: what it gets, what it may return, and what each mistake is called."""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from in_process import run, small

from foveate.cli import main
from foveate.data import open_data
from foveate.items import read_items
from foveate.registry import read_from_file
from foveate.spec import DataSpec, Metric, Run, Training, Variant
from foveate.store import Store
from foveate.study import Watcher
from foveate.study.build import build_for
from foveate.tasks import create_task
from foveate.train import TrainingFailed, train_with

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "own_trainer.py"

TRAINERS = '''"""Trainers, right and wrong."""
import torch


def touched(model):
    with torch.no_grad():
        next(model.parameters()).add_(0.01)


def orders(model, context):
    touched(model)
    items = [batch.items.tolist() for epoch in range(context.epochs) for batch in context.batches(epoch)]
    firsts = [float(batch.inputs.sum()) for batch in context.batches(0)]
    (context.folder / "order.txt").write_text(repr((items, firsts, context.steps_an_epoch, torch.rand(1).item())))
    return {"accuracy": 0.5}


def nothing(model, context):
    touched(model)


def validates(model, context):
    touched(model)
    context.tell(1, epoch=1, validation=context.validate(model)["accuracy"], items=len(context.data.validation))
    return {"accuracy": context.lr}


def not_finite(model, context):
    touched(model)
    return {"accuracy": float("nan")}


def text(model, context):
    touched(model)
    return {"accuracy": "high"}


def number(model, context):
    touched(model)
    return 0.5


def another(model, context):
    touched(model)
    return {"acuracy": 0.5}


def network(model, context):
    touched(model)
    return model


def untouched(model, context):
    import copy

    touched(copy.deepcopy(model))
    return {"accuracy": 0.5}


def raises(model, context):
    touched(model)
    return {"accuracy": [1, 2][context.epochs + 7]}


def leaves(model, context):
    raise SystemExit("had enough")


def too_few(model, context):
    touched(model)
    return {"accuracy": [1.0, 0.0]}


def percent(model, context):
    touched(model)
    return {"accuracy": 84.2}


def new_metric(model, context):
    touched(model)
    return {"accuracy": 0.5} | ({"other": 1.0} if context.seed == 1 else {})


def by_item(model, context):
    touched(model)
    context.tell(1, 2, epoch=1, loss=0.5, test_accuracy=0.25)
    return {"accuracy": torch.arange(40) % 2, "loss": 1.5}


def own_data(model, context):
    touched(model)
    assert model(torch.zeros(2, 3, 24, 24)).shape == (2, 7)
    assert (context.steps_an_epoch, len(context.data.train)) == (0, 0)
    return {"map50": context.options["value"]}


def hasty(model, context):
    touched(model)
    for step, steps in ((3, -1), (5, 2), (1, float("inf")), (1, None), (2, 0)):
        context.tell(step, steps)
    return {"accuracy": 0.5}
'''


@pytest.fixture(scope="module")
def trainers(tmp_path_factory):
    path = tmp_path_factory.mktemp("trainers") / "right_and_wrong.py"
    path.write_text(TRAINERS)
    return path


def folders(out):
    store = Store(out / "results.db", read_only=True)
    found = {(row["arm"], row["seed"]): out / "runs" / row["key"] for row in store.runs()}
    store.close()
    return found


def test_every_variant_of_a_seed_gets_the_same_batches_in_the_same_order(trainers, tmp_path):
    assert run(small("se", seeds=2, epochs=2, trainer=f"{trainers}:orders"), tmp_path).failed == ()
    orders = {name: (place / "order.txt").read_text() for name, place in folders(tmp_path).items()}
    assert orders["none", 0] == orders["se", 0] != orders["none", 1] == orders["se", 1]
    items, _, steps, _ = eval(orders["none", 0])
    assert steps == 3
    assert len(items) == 2 * steps
    assert sorted(item for batch in items[:3] for item in batch) == list(range(60))
    assert items[:3] != items[3:]


WRONG = [
    ("nothing", "nothing returned nothing; wanted {'accuracy': value}"),
    ("not_finite", "'accuracy' is nan"),
    ("text", "'accuracy': wanted a number, or one for each test item; got 'high'"),
    ("number", "number returned float; wanted {'accuracy': value}"),
    ("another", "returned no 'accuracy'; did you mean 'acuracy'?"),
    ("network", "returned a network; wanted {'accuracy': value}, the network is trained in place"),
    ("untouched", "left the network it was given as it was; did it train another, such as a copy?"),
    ("raises", "raised IndexError in line 62: list index out of range"),
    ("leaves", "raised SystemExit in line 66: had enough"),
    ("too_few", "'accuracy': wanted 40 values, one a test item; got 2"),
    ("percent", "'accuracy' is 84.2; wanted a fraction, 0 to 1, or another unit"),
]


@pytest.mark.parametrize(("name", "message"), WRONG, ids=[name for name, _ in WRONG])
def test_a_mistake_of_a_trainer_is_one_line(trainers, tmp_path, name, message):
    spec = Run(
        network="foveate:resnet8",
        variant=Variant(),
        data=DataSpec(train_items=20, test_items=40),
        train=Training(epochs=1),
        trainer=f"{trainers}:{name}",
        seed=0,
    )
    data = open_data(spec.data)
    task = create_task(spec.task, data)
    trainer = read_from_file(spec.trainer, "a function")
    with pytest.raises(TrainingFailed) as caught:
        train_with(trainer, spec, build_for(spec, data, 10), task, data, tmp_path)
    error = str(caught.value)
    assert message in error
    assert error.startswith(spec.trainer)
    assert "\n" not in error
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_metric_that_other_runs_do_not_have_is_refused(trainers, tmp_path):
    summary = run(small(trainer=f"{trainers}:new_metric", seeds=2), tmp_path)
    (failure,) = summary.failed
    assert failure.seed == 1
    assert failure.error.startswith("metric 'other' is new: other runs of this study gave accuracy")


def test_values_of_each_item_are_stored_with_their_names_and_their_mean_is_the_score(trainers, tmp_path):
    summary = run(small(trainer=f"{trainers}:by_item"), tmp_path)
    assert summary.arm("none").score.mean == 0.5
    assert [point.mean for point in summary.curves["none"]["test_accuracy"]] == [0.25]
    names, items = read_items(folders(tmp_path)["none", 0] / "items.npz")
    assert names == tuple(str(number) for number in range(40))
    np.testing.assert_array_equal(items["accuracy"], np.arange(40) % 2)
    assert "loss" not in items, "one value for the whole set"


def test_a_trainers_values_are_chosen_by_the_task_on_the_validation_part(trainers, tmp_path):
    train = Training.model_validate({"lr": [0.1, 0.2], "epochs": 1})
    summary = run(small(train=train, trainer=f"{trainers}:validates"), tmp_path)
    (tried,) = [arm.tried for arm in summary.tuning.arms]
    scores = [one.score.mean for one in tried]
    assert summary.arms[0].score.values == (0.1 if scores[0] >= scores[1] else 0.2,)
    curves = summary.curves["none"]
    assert curves["items"][0].mean == 10
    assert curves["validation"][0].mean == pytest.approx(max(scores))


def test_a_trainer_that_reads_its_own_data_says_what_it_measures(trainers, tmp_path):
    data = DataSpec(kind="none", size=24, options={"outputs": 7})
    study = small(
        trainer=f"{trainers}:own_data", data=data, trainer_options={"value": 37.5}, metric=Metric("map50", "points")
    )
    summary = run(study, tmp_path)
    assert summary.failed == ()
    assert summary.metric == Metric("map50", "points")
    assert summary.arm("none").score.mean == 37.5


def test_progress_is_a_part_of_the_whole_whatever_a_trainer_reports(trainers, tmp_path):
    from foveate.cli.progress import Progress

    seen = []

    class Seen(Progress):
        def progressed(self, run, step, steps):
            super().progressed(run, step, steps)
            seen.extend(self.fractions.values())

    with Seen(tmp_path, quiet=True) as progress:
        assert run(small(trainer=f"{trainers}:hasty"), tmp_path, watcher=progress).failed == ()
    assert seen == [0.0, 1.0, 0.0, 1 / 3, 0.0]


@pytest.mark.parametrize("name", ["train", "train_with_lightning"])
def test_the_trainers_of_the_documents_end_with_scores_of_each_item_and_whole_progress(tmp_path, name):
    pytest.importorskip("lightning")
    steps = []

    class Seen(Watcher):
        def progressed(self, run, step, steps_in_all):
            steps.append(step / steps_in_all)

    study = small("se", items=100, trainer=f"{EXAMPLES}:{name}", train=Training(epochs=2, batch_size=20, lr=0.005))
    with pytest.warns() if name.endswith("lightning") else contextlib.nullcontext():
        summary = run(study, tmp_path, watcher=Seen())
    assert summary.failed == ()
    assert min(steps) > 0
    assert max(steps) == pytest.approx(1, abs=0.1)
    assert summary.arm("se").items.items == 40
    _, items = read_items(folders(tmp_path)["se", 0] / "items.npz")
    assert items["accuracy"].mean() == summary.arm("se").score.mean


def test_failed_runs_are_told_by_the_command_line_with_status_1(trainers, tmp_path, monkeypatch, capsys):
    flags = ["--trainer", f"{trainers}:raises", "--attention", "none", "--seeds", "1", "--train-items", "40"]
    flags += ["--test-items", "20", "--control", "none", "--out", str(tmp_path), "--json"]
    monkeypatch.setattr(sys, "argv", ["foveate", "study", "run", *flags])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    (failure,) = json.loads(capsys.readouterr().out)["failed"]
    assert "raised IndexError in line 62" in failure["error"]
