"""The loop: repeatable, resumed bit for bit, stopped with a reason, never a half-written file."""

import itertools
import resource
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch

import foveate
from foveate.data import open_data
from foveate.spec import Data, Run, Training, Variant
from foveate.train import CHECKPOINT, TrainingFailed, batches_an_epoch, epoch_order, evenly, learning_rate, train


def make_run(attention="se", seed=0, **training):
    return Run(
        network="foveate:resnet8",
        variant=Variant(attention=attention),
        data=Data(train_images=160, test_images=60),
        train=Training(**({"epochs": 2, "batch_size": 32} | training)),
        seed=seed,
    )


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
    assert results[0]["metrics"]["accuracy"] == results[1]["metrics"]["accuracy"]
    right = safetensors.torch.load_file(tmp_path / "a" / "right.safetensors")["right"]
    assert right.double().mean().item() == results[0]["metrics"]["accuracy"][0]


CHILD = """
import sys
from pathlib import Path
from foveate.data import open_data
from foveate.spec import Run
from foveate.train import train
run = Run.model_validate_json(Path(sys.argv[1], "run.json").read_text())
def tell(step, steps, loss):
    print(step, flush=True)
train(run, open_data(run.data), Path(sys.argv[1]), on_progress=tell, checkpoint_s=0.0)
"""


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_killed_in_the_middle_of_an_epoch_ends_with_the_weights_of_an_unbroken_one(tmp_path, digits, optimizer):
    run = make_run("cbam", epochs=3, optimizer=optimizer, lr=0.01)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(run.model_dump_json())
    whole = train(run, digits, tmp_path / "whole")
    for last in (3, 8):  # of 15 steps
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
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert again["history"] == whole["history"]


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


def test_early_stopping_looks_at_held_out_images_and_is_off_by_default(tmp_path, digits):
    result = train(make_run(epochs=6, early_stop=1, lr=1e-6), digits, tmp_path)
    assert all("held_out_loss" in entry for entry in result["history"])
    (tmp_path / "plain").mkdir()
    plain = train(make_run(epochs=1), digits, tmp_path / "plain")
    assert "held_out_loss" not in plain["history"][0]


@pytest.mark.parametrize("options", [{"amp": True}, {"channels_last": True}, {"label_smoothing": 0.1}], ids=str)
def test_the_switches_train(tmp_path, digits, options):
    result = train(make_run(epochs=1, **options), digits, tmp_path)
    assert 0 <= result["metrics"]["accuracy"][0] <= 1


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


def test_training_leaves_the_process_as_it_was(tmp_path, digits):
    before = torch.are_deterministic_algorithms_enabled(), foveate.__version__
    train(make_run(epochs=1), digits, tmp_path)
    assert before == (torch.are_deterministic_algorithms_enabled(), foveate.__version__)


@pytest.mark.parametrize(("images", "batch_size"), [(120, 64), (65, 64), (64, 64), (3, 64), (160, 32), (7, 2)])
def test_every_image_is_used_and_no_small_batch_is_left_over(images, batch_size):
    parts = evenly(list(range(images)), batches_an_epoch(images, batch_size))
    assert [i for part in parts for i in part] == list(range(images))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
