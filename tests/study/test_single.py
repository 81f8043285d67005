"""`foveate train`: one network in its own folder, in one process and in the ranks of torchrun."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch

from foveate.spec import DataSpec, Study, Training, Variant
from foveate.study.folder import lock_folder
from foveate.study.single import train_one
from foveate.train.ranks import Ranks, batch_sizes_in_words

WITHOUT_NORMS = """
from torch import nn

def network(num_classes, in_channels=3):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.0), nn.Linear(8, num_classes),
    )
"""
FLAGS = ["--data", "embedded", "--train-items", "120", "--test-items", "40", "--batch-size", "31", "--epochs", "3",
         "--lr", "0.05", "--json"]  # fmt: skip


def one(**changes):
    return Study(
        variants=(Variant(), Variant.model_validate("se")),
        seeds=(3,),
        control="none",
        data=DataSpec(train_items=40, test_items=20),
        train=Training(epochs=1, batch_size=20),
        **changes,
    )


def test_a_training_writes_its_folder_and_is_not_done_twice(tmp_path, monkeypatch):
    told = []
    result = train_one(one(), tmp_path, on_start=lambda run, data, ranks: told.append((run.arm, run.seed, ranks)))
    assert told == [("se", 3, 1)]
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert {"model.safetensors", "run.json", "items.npz"} <= {path.name for path in tmp_path.iterdir()}
    monkeypatch.setattr("foveate.study.single.train", lambda *_, **__: pytest.fail("trained again"))
    assert train_one(one(), tmp_path) == result
    with pytest.raises(ValueError, match="holds another training"):
        train_one(one(), tmp_path, arm="none")
    with pytest.raises(ValueError, match="--arm: no variant is called 'sse'; .*'se'"):
        train_one(one(), tmp_path, arm="sse")
    with pytest.raises(ValueError, match="train: .*; got fast, which goes with a study"):
        train_one(one(fast=True), tmp_path)
    with lock_folder(tmp_path), pytest.raises(ValueError, match="is in use by process"):
        train_one(one(), tmp_path)


def test_ranks_divide_every_batch_and_say_what_the_learning_rate_belongs_to():
    parts = [[1, 2, 3, 4, 5], [6, 7, 8, 9]]
    shares = [Ranks(number, 2).share(parts) for number in range(2)]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == parts
    with pytest.raises(ValueError, match="batch_size: wanted 4 items or more, one for each rank; got 3"):
        Ranks(0, 4).check(3)
    assert "about 16 items each; the learning rate is that of the whole batch" in batch_sizes_in_words(64, 4)


def torchrun(folder, *more, ranks=2, wait=True):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [*start, "--max-restarts", "6", "-m", "foveate", "train", *FLAGS, "--out", str(folder), *more]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if not wait:
        return process
    out, error = process.communicate(timeout=400)
    assert process.returncode == 0, error
    assert "over 2 ranks" in error
    return json.loads(out)


@pytest.mark.slow
def test_two_ranks_learn_what_one_process_learns_and_a_killed_rank_changes_nothing(tmp_path):
    (tmp_path / "plain.py").write_text(WITHOUT_NORMS)
    network = ["--network", f"{tmp_path / 'plain.py'}:network"]
    alone = subprocess.run(
        [sys.executable, "-m", "foveate", "train", *FLAGS, *network, "--out", str(tmp_path / "one")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    torchrun(tmp_path / "two", *network)
    one, two = (safetensors.torch.load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-5), name
    ours, theirs = json.loads(alone.stdout)["history"], json.loads((tmp_path / "two" / "result.json").read_text())
    for a, b in zip(ours, theirs["history"], strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-5)

    process = torchrun(tmp_path / "killed", *network, "--epochs", "40", wait=False)
    end, checkpoint = time.monotonic() + 300, tmp_path / "killed" / "checkpoint.safetensors"
    while not checkpoint.is_file() and time.monotonic() < end:
        time.sleep(0.05)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
    )
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    _, error = process.communicate(timeout=400)
    assert process.returncode == 0, error
    torchrun(tmp_path / "unbroken", *network, "--epochs", "40")
    killed, unbroken = (
        safetensors.torch.load_file(tmp_path / name / "model.safetensors") for name in ("killed", "unbroken")
    )
    assert all(torch.equal(killed[name], unbroken[name]) for name in unbroken)
