"""Recordings of no data set: how they become windows, how these decide, and which cannot be taken."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat, wavfile
from torch import Tensor, nn

from foveate.data.signals.batches import Scaling
from foveate.study.predict_recordings import RecordingForm, predict_recordings

FORM = RecordingForm(window=8, channels=1, scaling=Scaling("window"), classes=("down", "up"), rate=1000.0)


class Slope(nn.Module):
    """Logits (0, last sample less the first): "up" where a window rises."""

    def forward(self, x: Tensor) -> Tensor:
        rise = x[:, 0, -1] - x[:, 0, 0]
        return torch.stack((torch.zeros_like(rise), rise), 1)


def tone(samples: int = 20) -> np.ndarray:
    return np.sin(np.arange(samples, dtype=np.float32))


def write(file: Path, values: np.ndarray, rate: int = 1000) -> Path:
    match file.suffix:
        case ".wav":
            wavfile.write(file, rate, values.astype(np.float32))
        case ".csv":
            np.savetxt(file, values, delimiter=",")
        case ".mat":
            savemat(file, {"signal": values})
        case ".npz":
            np.savez(file, signal=values)
        case _:
            np.save(file, values)
    return file


@pytest.mark.parametrize("ending", [".wav", ".csv", ".npy", ".npz", ".mat"])
def test_a_recording_of_any_kind_is_read_in_whole_windows(tmp_path: Path, ending: str) -> None:
    signal, rate = FORM.read(write(tmp_path / f"one{ending}", tone()))
    assert rate == (1000 if ending == ".wav" else None)
    windows = FORM.windows(signal, 0, 9)
    assert windows.shape == (2, 1, 8), "the last four samples are not read"
    first = tone()[8:16]
    np.testing.assert_allclose(windows[1, 0], (first - first.mean()) / first.std(), atol=1e-5)
    assert torch.equal(FORM.windows(signal, 1, 1), windows[1:])


def test_a_study_that_resamples_resamples_these_too(tmp_path: Path) -> None:
    form = replace(FORM, resample=True)
    signal, rate = form.read(write(tmp_path / "one.wav", tone(40), 2000))
    assert (signal.shape, rate) == ((1, 20), 1000)
    assert form.read(write(tmp_path / "one.npy", tone(40)), rate=2000)[0].shape == (1, 20)


@pytest.mark.parametrize(("majority", "whole"), [(False, "up"), (True, "down")])
def test_windows_decide_together_as_in_the_study(tmp_path: Path, majority: bool, whole: str) -> None:
    up = np.r_[np.full(7, -1.0), 7.0]  # one large rise against two small falls
    down = np.r_[0.7, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 0.2]
    file = write(tmp_path / "one.npy", np.r_[up, down, down])
    form = replace(FORM, majority=majority)
    (row,), windows = predict_recordings(Slope(), form, [file], tmp_path, batch_size=2, rate=1000)
    assert [one["class"] for one in windows] == ["up", "down", "down"]
    assert [(one["start"], one["start_s"]) for one in windows] == [(0, 0.0), (8, 0.008), (16, 0.016)]
    assert (row["file"], row["windows"], row["class"]) == ("one.npy", 3, whole)
    assert row["score up"] + row["score down"] == pytest.approx(1)
    if majority:
        assert row["score"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("name", "values", "options", "message"),
    [
        ("a.npy", tone()[:7], {}, "a.npy: has 7 samples; wanted at least window = 8"),
        ("a.csv", np.r_[tone(), np.nan], {}, "a.csv: 1 sample without a finite value, the first at 20"),
        ("a.wav", tone(), {"rate_of_file": 8000}, "a.wav: has 8000 samples a second; the network was trained on 1000"),
        ("a.npy", tone(), {"rate": 500.0}, "a.npy: has 500 samples a second; the network was trained on 1000"),
        ("a.npy", tone(), {"resample": True}, "a.npy: does not say its rate, to be resampled from; wanted --rate"),
        ("a.npy", np.stack([tone(), tone()]), {}, "a.npy: has 2 channels; the network takes 1"),
        ("a.npz", tone(), {"key": "DE"}, "a.npz: has no array 'DE'"),
        ("a.wav", tone(), {"rate": 1000.0}, "--rate: of files that do not say theirs; .*a.wav does"),
    ],
)
def test_what_a_network_cannot_take_is_said_of_its_file(tmp_path, name, values, options, message) -> None:
    file = write(tmp_path / name, values, options.pop("rate_of_file", 1000))
    form = replace(FORM, resample=options.pop("resample", False))
    with pytest.raises(ValueError, match=message):
        predict_recordings(Slope(), form, [file], tmp_path, **options)
