"""The task on signals: weights of classes, scores by level of noise and by recording, and its baselines."""

import numpy as np
import pytest
import torch

from foveate.data import open_data
from foveate.spec import DataSpec
from foveate.tasks import create_task
from foveate.tasks.signal_baselines import SPECTRUM, WAVELETS, log_spectrum, shrunk, signal_baselines
from foveate.tasks.signals import OF_RECORDINGS

PERIODS = {"slow": 16, "fast": 5}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two tones, of the slow one three times as many recordings, and loads 0 and 1."""
    root = tmp_path_factory.mktemp("tones")
    lines = ["file,label,load"]
    for label, load, number in [("slow", load, n) for load in (0, 1) for n in range(3)] + [
        ("fast", 0, 0),
        ("fast", 1, 0),
    ]:
        rng = np.random.default_rng(len(lines))
        signal = np.sin(2 * np.pi * np.arange(640) / PERIODS[label]) + 0.1 * rng.standard_normal(640)
        np.save(root / f"{label}{load}{number}.npy", signal)
        lines.append(f"{label}{load}{number}.npy,{label},{load}")
    (root / "index.csv").write_text("\n".join(lines))
    return root


def opened(root, **options):
    options = {"window": 64, "split": "load", "train_on": 0, "test_on": 1} | options
    return open_data(DataSpec(source=str(root), kind="signals", options=options))


class Answering(torch.nn.Module):
    """Gives the true class of the windows that it is told, in order; the other one else."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.at = logits, 0

    def forward(self, x):
        self.at += len(x)
        return self.logits[self.at - len(x) : self.at]


def scored(task, logits):
    meter, model = task.meter(), Answering(logits)
    for first in range(0, len(task.data.test), 7):
        meter.update(model, task.data.test.batch(range(first, min(first + 7, len(task.data.test))), None))
    return meter.scores()


def test_scores_are_by_level_of_noise_and_by_recording(recordings):
    data = opened(recordings, noise="white", snr_db=[5, -5])
    task = create_task("signals", data)
    names = [metric.name for metric in task.metrics]
    assert names == ["accuracy", "loss", "accuracy at +5 dB", "accuracy at -5 dB", OF_RECORDINGS]
    labels = torch.tensor(data.test.labels)
    right = torch.nn.functional.one_hot(labels, 2) * 4.0
    whole = scored(task, right)
    assert whole.values["accuracy"] == whole.values[OF_RECORDINGS] == 1
    half = len(labels) // 2
    wrong = right.clone()
    wrong[half:] = right[half:].flip(1)  # every window of the second level
    found = scored(task, wrong)
    assert found.values["accuracy at +5 dB"] == 1
    assert found.values["accuracy at -5 dB"] == 0
    assert found.values[OF_RECORDINGS] == 0.5, "a recording at a level is one answer"
    assert np.isnan(found.items["accuracy at +5 dB"]).tolist() == [False] * half + [True] * half


def test_a_recording_is_judged_by_the_mean_or_by_the_majority_of_its_windows(recordings):
    data = opened(recordings)
    labels = torch.tensor(data.test.labels)
    logits = torch.nn.functional.one_hot(labels, 2) * 0.5
    of_first = np.flatnonzero(data.test.recordings == data.test.recordings[0])
    logits[of_first[:4]] = logits[of_first[:4]].flip(1) * 40  # 4 of 10 windows are wrong, and sure
    values = {way: scored(create_task("signals", data, recordings=way), logits).values for way in ("mean", "majority")}
    assert values["majority"][OF_RECORDINGS] == 1
    assert values["mean"][OF_RECORDINGS] == 0.75
    assert values["mean"]["accuracy"] == values["majority"]["accuracy"] == 1 - 4 / 40


def test_weights_of_classes_change_the_loss_alone(recordings):
    data = opened(recordings)
    batch = data.train.batch(range(len(data.train)), None)
    logits = torch.randn(len(batch), 2)
    plain, balanced, given = (
        float(create_task("signals", data, class_weights=one).loss(Answering(logits), batch)["loss"])
        for one in (None, "balanced", {"slow": 1.0, "fast": 3.0})
    )
    labels = batch.targets["label"]  # "fast" is 0
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    by_class = float((each[labels == 0].mean() + each[labels == 1].mean()) / 2)
    assert balanced == pytest.approx(by_class, rel=1e-5) == given
    assert plain == pytest.approx(float(each.mean()), rel=1e-5)
    with pytest.raises(ValueError, match="class_weights: no class is called 'quick'"):
        create_task("signals", data, class_weights={"quick": 2.0})
    with pytest.raises(ValueError, match="recordings: wanted 'mean' or 'majority'; got 'best'"):
        create_task("signals", data, recordings="best")
    with pytest.raises(ValueError, match=r"wanted signals \(C, T\) for the task 'signals'; got \(1, 32, 32\)"):
        create_task("signals", open_data(DataSpec(train_items=20, test_items=20)))


def test_baselines_tell_tones_apart_until_the_noise_is_stronger(recordings):
    data = opened(recordings, noise="white", snr_db=[10, -40])
    found = create_task("signals", data).further_baselines()
    assert set(found) == {SPECTRUM, WAVELETS}
    for one in found.values():
        assert one["accuracy at +10 dB"] >= 0.95
        assert one["accuracy at -40 dB"] < 0.9
        assert one["accuracy"] == pytest.approx((one["accuracy at +10 dB"] + one["accuracy at -40 dB"]) / 2)
    clean = opened(recordings)
    assert signal_baselines(clean.train, clean.test, {0: "accuracy"})[SPECTRUM]["accuracy"] == 1


def test_wavelets_take_white_noise_away_and_leave_a_slow_wave():
    clean = 3 * np.sin(2 * np.pi * np.arange(512) / 128)[None, None]
    noisy = clean + 0.2 * np.random.default_rng(0).standard_normal(clean.shape)
    left = shrunk(noisy) - clean
    assert left.std() < 0.6 * (noisy - clean).std()
    spectrum = log_spectrum(np.sin(2 * np.pi * np.arange(64) / 8)[None, None])
    assert spectrum.shape == (1, 33)
    assert spectrum.argmax() == 8
