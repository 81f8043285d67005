"""The loop: repeatable, resumed bit for bit, stopped with a reason, never a half-written file."""

import contextlib
import dataclasses
import itertools
import json
import resource
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch

from foveate.data import Split, open_data
from foveate.files import read_json
from foveate.items import read_items
from foveate.spec import DataSpec, Run, Training, Variant
from foveate.study.build import build_for
from foveate.tasks import create_task
from foveate.train import (
    CHECKPOINT,
    Ranks,
    TrainingFailed,
    TrainingStopped,
    batches_an_epoch,
    epoch_order,
    evenly,
    learning_rate,
)
from foveate.train import train as train_network
from foveate.train.attention_state import STATE
from foveate.train.average import WeightAverage


def make_run(attention="se", seed=0, task_options=None, **training):
    return Run(
        network="foveate:resnet8",
        variant=Variant(attention=attention),
        task_options=task_options or {},
        data=DataSpec(train_items=160, test_items=60),
        train=Training(**({"epochs": 2, "batch_size": 32} | training)),
        seed=seed,
    )


def train(run, data, folder, **options):
    task = create_task(run.task, data, **run.task_options)
    return train_network(run, build_for(run, data, task.outputs), task, data, folder, **options)


def value_of(result, name):
    (value,) = [one["value"] for one in result["metrics"] if one["name"] == name]
    return value


@pytest.fixture(scope="module")
def digits():
    return open_data(make_run().data)


def weights(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_same_run_twice_gives_the_same_weights_and_another_seed_others(tmp_path, digits):
    results = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        results.append(train(make_run(seed=seed), digits, tmp_path / name))
        torch.randn(7)  # whatever else drew random numbers meanwhile
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))
    assert results[0]["history"] == results[1]["history"]
    assert value_of(results[0], "accuracy") == value_of(results[1], "accuracy")
    names, items = read_items(tmp_path / "a" / "items.npz")
    assert len(names) == 60
    assert items["accuracy"].astype(float).mean() == value_of(results[0], "accuracy")


CHILD = """
import sys
from pathlib import Path
from foveate.data import Split, open_data
from foveate.spec import Run
from foveate.study.build import build_for
from foveate.tasks import create_task
from foveate.train import train
run = Run.model_validate_json(Path(sys.argv[1], "run.json").read_text())
def tell(step, steps, loss):
    print(step, flush=True)
data = open_data(run.data)
task = create_task(run.task, data)
model = build_for(run, data, task.outputs)
train(run, model, task, data, Path(sys.argv[1]), on_progress=tell, checkpoint_s=0.0)
"""


@pytest.mark.parametrize(("optimizer", "ema", "kills"), [("sgd", None, [8]), ("adamw", 0.9, [3, 8])])
def test_a_run_killed_in_the_middle_of_an_epoch_ends_with_the_weights_of_an_unbroken_one(
    tmp_path, digits, optimizer, ema, kills
):
    run = make_run("cbam", epochs=3, optimizer=optimizer, lr=0.01, ema=ema)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(run.model_dump_json())
    whole = train(run, digits, tmp_path / "whole")
    for last in kills:  # of 15 steps
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "killed")], stdout=subprocess.PIPE)
        for line in child.stdout:
            if int(line) >= last:
                break
        time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert (tmp_path / "killed" / CHECKPOINT).is_file()
    steps = []
    again = train(run, digits, tmp_path / "killed", on_progress=lambda step, *_: steps.append(step))
    assert 1 < steps[0] <= 15, "it went on from a checkpoint"
    assert read_json(tmp_path / "killed" / STATE) == read_json(tmp_path / "whole" / STATE)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert again["history"] == whole["history"]


def test_ranks_stop_after_the_same_step_whichever_is_to_stop(tmp_path, digits, monkeypatch):
    reduced = []

    def sums(self, values, device):
        reduced.append(list(values))
        return [*map(float, values[:-2]), float(len(reduced) == 3), 0.0]  # another rank is to stop in the third step

    monkeypatch.setattr(Ranks, "here", classmethod(lambda cls: cls(0, 2)))
    monkeypatch.setattr(Ranks, "sums", sums)
    monkeypatch.setattr(Ranks, "wrapped", lambda self, model: model)
    monkeypatch.setattr(Ranks, "generators", lambda self: [{"generator": torch.get_rng_state()}] * 2)
    steps = []
    with pytest.raises(TrainingStopped):
        train(make_run(), digits, tmp_path, on_progress=lambda step, *_: steps.append(step))
    assert steps == [1, 2, 3]
    assert len(reduced) == 3, "one sum over ranks in a step"
    with safetensors.safe_open(tmp_path / CHECKPOINT, "pt") as file:
        assert json.loads(file.metadata()["facts"])["step"] == 3


def test_a_loss_that_is_not_finite_names_the_step_and_the_rate(tmp_path, digits):
    with pytest.raises(
        TrainingFailed, match=r"the loss is (nan|inf) at step \d+ of 10 \(epoch \d\), learning rate \d[.\d]*e\+"
    ):
        train(make_run(lr=1e30), digits, tmp_path)


def test_a_disk_that_is_full_leaves_the_old_checkpoint_whole(tmp_path, digits):
    run = make_run()
    train(run, digits, tmp_path, checkpoint_s=0.0)
    before = (tmp_path / CHECKPOINT).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    longer = make_run(epochs=2, lr=0.05)
    (tmp_path / "other").mkdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # a write beyond it fails, as on a full disk
    try:
        with pytest.raises(TrainingFailed, match="cannot be written"):
            train(longer, digits, tmp_path / "other")
        (tmp_path / CHECKPOINT).with_name("model.safetensors").unlink()
        with pytest.raises(TrainingFailed, match="model.safetensors: cannot be written"):
            train(run, digits, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert not list(tmp_path.rglob("*.part"))


def test_a_checkpoint_that_is_cut_short_or_anothers_is_refused_by_name(tmp_path, digits):
    run = make_run()
    train(run, digits, tmp_path)
    with pytest.raises(TrainingFailed, match="belongs to another run"):
        train(make_run(seed=5), digits, tmp_path)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingFailed, match="not a checkpoint"):
        train(run, digits, tmp_path)


class Unseen(Split):
    """A split in whose place nothing may be read."""

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return len(self.split)

    def batch(self, items, augment):
        raise AssertionError("the test part was read")


def test_training_that_is_stopped_early_reads_the_validation_part_and_no_test_item(tmp_path, digits):
    run = make_run(epochs=6, early_stop=1, lr=1e-6)
    with pytest.raises(ValueError, match="early_stop: wanted data with a validation part"):
        train(run, digits, tmp_path)
    data = open_data(run.data.model_copy(update={"validation_fraction": 0.1}))
    with pytest.raises(AssertionError, match="the test part was read"):  # at the very end
        train(run, dataclasses.replace(data, test=Unseen(data.test)), tmp_path)
    result = train(run, data, tmp_path)
    history = result["history"]
    assert 1 < len(history) == value_of(result, "epochs") < 6
    assert {"validation_accuracy", "validation_loss"} < history[0].keys()
    assert not any(name.startswith("test") for entry in history for name in entry)
    assert value_of(result, "accuracy (validation)") == history[-1]["validation_accuracy"]
    (tmp_path / "plain").mkdir()
    plain = train(make_run(epochs=1), digits, tmp_path / "plain")
    assert "validation_loss" not in plain["history"][0]


@pytest.fixture(scope="module")
def plain_result(tmp_path_factory, digits):
    return train(make_run(epochs=1), digits, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(("switch", "close"), [("amp", 0.05), ("channels_last", 1e-3)])
def test_a_number_format_or_memory_layout_changes_the_loss_by_rounding_alone(
    tmp_path, digits, plain_result, switch, close
):
    result = train(make_run(epochs=1, **{switch: True}), digits, tmp_path)
    ours, theirs = result["history"][0]["train_loss"], plain_result["history"][0]["train_loss"]
    assert ours == pytest.approx(theirs, rel=close)
    assert ours != theirs, "the switch was on"


def test_label_smoothing_is_in_the_training_loss_and_not_in_the_test_loss(tmp_path, digits):
    result = train(make_run(epochs=1, lr=1e-9, task_options={"label_smoothing": 0.5}), digits, tmp_path)
    (tmp_path / "plain").mkdir()
    plain = train(make_run(epochs=1, lr=1e-9), digits, tmp_path / "plain")
    (ours,), (theirs,) = result["history"], plain["history"]
    assert abs(ours["train_loss"] - theirs["train_loss"]) > 1e-4 > abs(ours["test_loss"] - theirs["test_loss"])


def test_order_and_rate_are_functions_of_seed_epoch_and_step():
    order = epoch_order(list(range(50)), 3, 2)
    assert sorted(order) == list(range(50))
    assert order == epoch_order(list(range(50)), 3, 2)
    assert order != epoch_order(list(range(50)), 3, 1) != epoch_order(list(range(50)), 4, 1)
    spec = Training(lr=0.5, warmup_epochs=1)
    rates = [learning_rate(step, 100, 10, spec) for step in range(100)]
    assert rates[0] < rates[9] < rates[10] == pytest.approx(0.5)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.01


def test_gradients_are_clipped_to_the_norm_of_all_of_them(tmp_path, digits):
    run = make_run(epochs=1, clip=1e-6, lr=1.0, momentum=0, weight_decay=0)
    start = {name: value.clone() for name, value in build_for(run, digits, 10).named_parameters()}
    train(run, digits, tmp_path)
    moved = sum((value - start[name]).square().sum() for name, value in weights(tmp_path).items() if name in start)
    assert 0 < moved.sqrt() < 1e-6 * batches_an_epoch(160, 32), "steps of at most the rate times the norm"


@pytest.mark.parametrize("lr", [0.1, 1e30], ids=["trained", "failed"])
def test_training_leaves_threads_random_state_and_determinism_as_they_were(tmp_path, digits, lr):
    def state():
        flags = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        return torch.get_num_threads(), *flags, torch.get_rng_state().tolist()

    run = make_run(lr=lr, threads=3, epochs=1 if lr < 1 else 2)
    task = create_task(run.task, digits)
    model = build_for(run, digits, task.outputs)
    found: list[int] = []
    torch.set_num_threads(2)
    try:
        torch.use_deterministic_algorithms(False)
        torch.manual_seed(123)
        before = state()
        with contextlib.suppress(TrainingFailed):
            train_network(
                run, model, task, digits, tmp_path, on_progress=lambda *_: found.append(torch.get_num_threads())
            )
        assert state() == before
        assert set(found) == {3}, "while it trains, the threads are those of the run"
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(("images", "batch_size"), [(120, 64), (65, 64), (64, 64), (3, 64), (160, 32), (7, 2)])
def test_every_image_is_used_and_no_small_batch_is_left_over(images, batch_size):
    parts = evenly(list(range(images)), batches_an_epoch(images, batch_size))
    assert [i for part in parts for i in part] == list(range(images))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_the_average_of_the_weights_is_evaluated_and_training_goes_on_from_the_last_ones():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average = WeightAverage(model, 0.5)
    start = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight += 1
        model[1].num_batches_tracked += 3
    average.update(model, 1)  # d = min(0.5, 2 / 11)
    torch.testing.assert_close(average.tensors["0.weight"], start + 9 / 11)
    assert average.tensors["1.num_batches_tracked"] == 3
    with average.used(model):
        torch.testing.assert_close(model[0].weight.detach(), start + 9 / 11)
    torch.testing.assert_close(model[0].weight.detach(), start + 1)
