"""Signals: what files are read, how recordings are divided into windows, what noise is, and every fault by name."""

import json

import numpy as np
import pytest
import torch
from scipy.io import savemat, wavfile

from foveate.data import inspect_data
from foveate.data.open import kind_of, open_data
from foveate.data.signals.files import read_signal
from foveate.data.signals.noise import Noise, drawn, with_noise
from foveate.spec import DataSpec


def tone(length, seed, period=16):
    rng = np.random.default_rng(seed)
    return (np.sin(2 * np.pi * np.arange(length) / period) + 0.1 * rng.standard_normal(length)).astype(np.float32)


def table(root, rows, head="file,label,load"):
    """A folder of recordings by (class, load), 400 samples each, and its table."""
    root.mkdir(parents=True, exist_ok=True)
    lines = [head]
    for number, (label, load) in enumerate(rows):
        np.save(root / f"{number}.npy", tone(400, number, 8 if label == "a" else 16))
        lines.append(f"{number}.npy,{label},{load}")
    (root / "index.csv").write_text("\n".join(lines))
    return root


def opened(root, test_fraction=0.25, **options):
    options = {"window": 32} | options
    return open_data(DataSpec(source=str(root), kind="signals", test_fraction=test_fraction, options=options))


def samples(split):
    """(recording, sample) of every sample that a window of the split may show."""
    at = [(split.stretches[number].recording, start) for number, start in split.windows.tolist()]
    return {(recording, start + t) for recording, start in at for t in range(split.window)}


def test_every_kind_of_file_is_read_with_its_rate(tmp_path):
    signal = tone(50, 0)
    both = np.stack([signal, 2 * signal])
    np.save(tmp_path / "a.npy", both.T)
    np.savez(tmp_path / "a.npz", x=signal, y=2 * signal)
    savemat(tmp_path / "a.mat", {"X097_DE_time": signal[:, None], "X097RPM": np.array([[1796]])})
    wavfile.write(tmp_path / "a.wav", 8000, (signal / 2 * 32767).astype(np.int16))
    lines = [f"{t},{one}" for t, one in zip(signal, 2 * signal, strict=True)]
    (tmp_path / "a.csv").write_text("x,y\n" + "\n".join(lines))
    found, rate = read_signal(tmp_path / "a.npy")
    assert rate is None
    np.testing.assert_array_equal(found, both)
    np.testing.assert_array_equal(read_signal(tmp_path / "a.npz", "y")[0], both[1:])
    np.testing.assert_array_equal(read_signal(tmp_path / "a.mat", "*DE_time")[0], both[:1])
    found, rate = read_signal(tmp_path / "a.wav")
    assert rate == 8000
    np.testing.assert_allclose(found, both[:1] / 2, atol=1e-4)
    np.testing.assert_allclose(read_signal(tmp_path / "a.csv")[0], both, rtol=1e-6)
    np.testing.assert_allclose(read_signal(tmp_path / "a.csv", "y")[0], both[1:], rtol=1e-6)
    with pytest.raises(ValueError, match=r"has 2 arrays \(x, y\); wanted key = the name or pattern of one"):
        read_signal(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="has no column 'z'; known: x, y"):
        read_signal(tmp_path / "a.csv", "z")
    (tmp_path / "text.npz").write_text("x")
    with pytest.raises(ValueError, match="pickled|allow_pickle"):
        read_signal(tmp_path / "text.npz", "x")


def test_a_division_by_time_has_a_gap_and_no_common_sample(tmp_path):
    root = table(tmp_path, [("a", 0), ("b", 0)])
    data = opened(root, hop=8, shift=5, gap=20, validation=0.2)
    parts = [samples(split) for split in (data.train, data.validation, data.test)]
    assert not parts[0] & parts[1]
    assert not parts[1] & parts[2]
    assert not parts[0] & parts[2]
    for recording in (0, 1):
        train, validation, test = ({t for one, t in part if one == recording} for part in parts)
        assert min(validation) - max(train) > 20
        assert min(test) - max(validation) > 20
        assert min(test) == 300
    assert len(data.test) == 2 * 3, "windows of the test do not overlap"
    assert "its parts 20 samples apart or more and without a common sample" in data.notes[-1]
    assert data.about["split"] == "the last 25 % of each recording is the test, 20 samples after training"
    moved = [data.train.batch([3], (0, epoch)).inputs for epoch in range(3)]
    assert not torch.equal(moved[0], moved[1])
    assert torch.equal(moved[2], data.train.batch([5, 3], (0, 2)).inputs[1:])
    with pytest.raises(ValueError, match="items of one group, nothing to hold out for validation"):
        open_data(DataSpec(source=str(root), kind="signals", validation_fraction=0.2, options={"window": 32, "hop": 8}))


def test_whole_recordings_are_divided_by_file_and_by_column(tmp_path):
    root = table(tmp_path, [(label, load) for label in "ab" for load in (0, 1, 2)])
    by_file = opened(root, split="file", test_fraction=0.34)
    assert not set(by_file.train.groups) & set(by_file.test.groups)
    assert set(by_file.train.labels) == set(by_file.test.labels) == {0, 1}
    by_load = opened(root, split="load", train_on=[0, 1], test_on=2)
    assert set(by_load.test.groups) == {"2.npy", "5.npy"}
    assert set(by_load.train.groups) == {"0.npy", "1.npy", "3.npy", "4.npy"}
    assert len(by_load.test) == 2 * (400 // 32)
    some = opened(root, only={"load": [0, 1]}, split="load", train_on=0, test_on=1)
    assert set(some.train.groups) | set(some.test.groups) == {"0.npy", "1.npy", "3.npy", "4.npy"}


def test_noise_has_its_ratio_its_distribution_and_its_spectrum():
    rng = np.random.default_rng(0)
    signal = tone(4096, 0)[None]
    for kind, kurtosis in (("white", 3.0), ("laplacian", 6.0), ("pink", 3.0)):
        noise = np.concatenate([drawn(kind, (1, 4096), rng) for _ in range(50)])
        assert abs(noise.mean()) < 0.02
        assert abs(noise.var() - 1) < 0.05
        assert abs((noise**4).mean() / noise.var() ** 2 - kurtosis) < 0.4, kind
        power = (np.abs(np.fft.rfft(noise, axis=1)) ** 2).mean(0)
        slope = np.polyfit(np.log(np.arange(1, 2000)), np.log(power[1:2000]), 1)[0]
        assert abs(slope + (kind == "pink")) < 0.1, kind
        added = np.concatenate([with_noise(signal, kind, -5.0, rng) for _ in range(20)]) - signal
        assert abs(10 * np.log10(signal.var() / added.var()) + 5) < 0.3
    assert with_noise(signal, "white", None, rng) is signal


def test_each_test_window_is_an_item_at_each_level_and_its_noise_is_its_own(tmp_path):
    root = table(tmp_path, [("a", 0), ("b", 0)])
    data = opened(root, noise="white", snr_db=["clean", 0, -10], noise_in="test")
    clean = opened(root)
    windows = len(clean.test)
    assert data.targets["condition"].names == ("clean", "0 dB", "-10 dB")
    assert len(data.test) == 3 * windows
    assert data.test.name_of(0) == "0.npy at 300"
    batch = data.test.batch(range(3 * windows), None)
    assert torch.equal(batch.inputs[:windows], clean.test.batch(range(windows), None).inputs)
    assert batch.targets["condition"].tolist() == sorted([0, 1, 2] * windows)
    assert torch.equal(batch.targets["label"], clean.test.batch(range(windows), None).targets["label"].repeat(3))
    again = data.test.batch([windows + 2, 5], None)
    assert torch.equal(again.inputs, batch.inputs[[windows + 2, 5]])
    assert len(set(data.test.groups)) == windows, "a window at several levels is one group"
    assert torch.equal(data.train.batch([0], (0, 0)).inputs, clean.train.batch([0], None).inputs)
    trained = opened(root, noise="pink", snr_db=[5, -5]).train
    levels = trained.batch(range(len(trained)), (0, 0)).targets["condition"]
    assert set(levels.tolist()) == {0, 1}
    assert not torch.equal(trained.batch([0], (0, 0)).inputs, trained.batch([0], (0, 1)).inputs)


def test_no_two_parts_share_their_noise(tmp_path):
    data = opened(table(tmp_path, [("a", 0), ("b", 0)]), noise="white", snr_db=-60, validation=0.2)
    parts = [(data.train, None), (data.train, (0, 0)), (data.validation, None), (data.test, None)]
    noise = np.stack([part.batch([0], how).inputs.flatten().numpy() for part, how in parts])
    assert np.abs(np.corrcoef(noise) - np.eye(4)).max() < 0.7  # of 32 samples


def test_windows_are_scaled_by_their_own_or_by_the_training_parts_values(tmp_path):
    root = table(tmp_path, [("a", 0), ("b", 0)])
    np.save(root / "1.npy", 10 + 3 * tone(400, 1))
    own = opened(root).train
    x = own.batch(range(len(own)), None).inputs
    torch.testing.assert_close(x.mean(2), torch.zeros(len(x), 1), atol=1e-5, rtol=0)
    train = opened(root, scale="training", gain=0.5).train
    x = train.batch(range(len(train)), None).inputs
    assert abs(float(x.mean())) < 1e-5
    assert abs(float(x.std(correction=0)) - 1) < 1e-5
    assert float(x[: len(x) // 2].mean()) < -0.5 < 0.5 < float(x[len(x) // 2 :].mean())
    assert not torch.equal(train.batch([0], (0, 0)).inputs, x[:1])


def test_rates_differ_only_where_resampling_is_asked_for(tmp_path):
    root = table(tmp_path, [("a", 1000), ("b", 2000)], head="file,label,rate")
    with pytest.raises(
        ValueError, match="1.npy: has 2000 samples a second, 0.npy 1000 samples a second; wanted one rate"
    ):
        opened(root)
    data = opened(root, rate=1000)
    assert [signal.shape[1] for signal in data.train.signals] == [400, 200]
    assert data.about["rate"] == "1000 samples a second"
    table(root, [("a", 0), ("b", 0)])
    with pytest.raises(ValueError, match="has no rate to resample from"):
        opened(root, rate=1000)


def test_what_cannot_be_used_is_said_by_name(tmp_path):
    root = table(tmp_path, [("a", 0), ("a", 1), ("b", 0)])
    odd = tone(400, 0)
    odd[17:20] = np.nan
    np.save(root / "0.npy", odd)
    np.save(root / "1.npy", tone(20, 0))
    problems = {
        problem.path.name: problem.reason for problem in inspect_data(str(root), options={"window": 32}).problems
    }
    assert problems["0.npy"] == "3 samples without a finite value, the first at 17"
    assert problems["1.npy"] == "has 20 samples; wanted at least window = 32"
    np.save(root / "0.npy", np.ones(400))
    np.save(root / "1.npy", tone(100, 0))
    with pytest.raises(ValueError, match=r"0.npy: a channel whose samples are all alike"):
        opened(root)
    data = opened(root, test_fraction=0.4, skip_bad=True, gap=0)
    assert "left out: a channel whose samples are all alike" in data.notes[0]
    assert len(data.train) == 1 + 7
    with pytest.raises(ValueError, match="1.npy: its test part has 25 samples; wanted at least window = 32"):
        opened(root, skip_bad=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "lod"}, "no column 'lod' to divide by; did you mean 'load'"),
        ({"split": "load", "train_on": 0, "test_on": 3}, "test_on: no recording has load = '3'"),
        ({"split": "load", "train_on": 0, "test_on": [0, 1]}, "wanted different values of 'load'; got '0' in both"),
        ({"split": "load", "train_on": 0}, "train_on and test_on go together"),
        (
            {"split": "load", "train_on": 0, "test_on": 1},
            "class 'b' has recordings in the training part and none in the",
        ),
        ({"split": "file"}, "class 'b' has 1 item, too few to hold out for testing"),
        ({"split": "time", "train_on": 0}, "train_on and test_on go with split = the name of a column"),
        ({"split": "file", "gap": 3}, "gap: goes with split = 'time'"),
        ({"gap": -1}, "gap: wanted a whole number of 0 or more; got -1"),
        ({"window": 1}, "window: wanted a whole number of 2 or more; got 1"),
        ({"hop": 0}, "hop: wanted a whole number of 1 or more; got 0"),
        ({"label": "fault"}, "index.csv: label: no column is called 'fault'; known: file, label, load"),
        ({"only": {"load": 7}}, "only: no recording has load = '7'"),
        ({"noise": "brown", "snr_db": 0}, "noise: wanted none, white, laplacian, pink; got 'brown'"),
        ({"noise": "white"}, "snr_db: wanted one or more different levels"),
        ({"snr_db": 0}, "snr_db and noise_in go with noise"),
        ({"noise": "white", "snr_db": [0, "loud"]}, "snr_db: wanted decibels from -60 to 100, or 'clean'; got 'loud'"),
        ({"scale": "mean"}, "scale: wanted 'window' or 'training'; got 'mean'"),
        ({"gain": 1}, "gain: wanted 0 or more, below 1; got 1"),
        ({"gain": 0.1}, "gain: goes with scale = 'training'"),
        ({"rate": 0}, "rate: wanted samples a second above 0; got 0"),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_one_line(options, message, tmp_path):
    root = table(tmp_path, [("a", 0), ("a", 1), ("b", 0)])
    with pytest.raises(ValueError, match=message) as error:
        opened(root, **options)
    assert "\n" not in str(error.value)


def test_class_folders_and_tables_are_recognised_and_their_faults_named(tmp_path):
    root = tmp_path / "folders"
    for label in "ab":
        (root / label).mkdir(parents=True)
        for number in range(2):
            wavfile.write(root / label / f"{number}.wav", 8000, tone(400, ord(label) + 10 * number))
    assert kind_of(str(root)) == "signals"
    assert opened(root).description == "folders: 4 recordings of 2 classes, 32 train, 12 test windows of 1×32 samples"
    assert opened(root).about["rate"] == "8000 samples a second"
    (root / "b" / "2.wav").write_bytes((root / "a" / "1.wav").read_bytes())
    with pytest.raises(ValueError, match="2.wav: has the same samples as a/1.wav; wanted each recording once"):
        opened(root)
    assert len(opened(root, skip_bad=True).train) == 32
    (root / "b" / "2.wav").unlink()
    (root / "a" / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"notes.txt: not a recording; wanted one of .npz"):
        opened(root)
    with pytest.raises(ValueError, match="only: goes with a table, index.csv or index.json"):
        opened(root, only={"load": 0})
    rows = table(tmp_path / "rows", [("a", 0), ("b", 0)])
    assert kind_of(str(rows)) == "signals"
    (rows / "0.npy").rename(rows / "zero.npy")
    with pytest.raises(ValueError, match="index.csv: line 2: names 0.npy; there is no such file; did you mean"):
        opened(rows)
    with pytest.raises(ValueError, match="there is no such folder"):
        opened(tmp_path / "nothing")


def test_the_bearing_recordings_are_read_as_they_lie_there(shared):
    folder = shared / "data" / "bearing_cwru"
    options = {"label": "fault", "factor": "step", "split": "load_hp", "train_on": 1, "test_on": 3}
    data = opened(folder, window=1024, hop=512, **options)
    assert len(data.targets["label"].names) == 9, "normal has no recording at these loads"
    assert data.about["rate"] == "12000 samples a second"
    rows = json.loads((folder / "index.json").read_text())["signals"]
    first = next(row for row in rows if row["load_hp"] == 1)
    with np.load(folder / "cwru_12k_de_int16.npz") as kept:
        wanted = kept[first["key"]] * first["step"]
    np.testing.assert_allclose(data.train.signals[0 + 10][0], wanted, rtol=1e-5)


def test_noise_says_what_it_is_in_words():
    assert str(Noise.of("white", [5, 0, "clean"], "test")) == "white at +5 dB, 0 dB, clean, in the test"
