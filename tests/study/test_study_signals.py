"""A study of signals from recordings to a page, with attention put into a network of one dimension."""

import csv

import numpy as np
from in_process import run

from foveate.data import open_data
from foveate.report import write_report
from foveate.spec import Study
from foveate.study.evaluation import evaluate_run
from foveate.tasks.signal_baselines import SPECTRUM
from foveate.tasks.signals import OF_RECORDINGS


def recordings(root, loudness):
    for label, period in (("slow", 16), ("fast", 5)):
        (root / label).mkdir(parents=True)
        np.save(root / label / f"{loudness}.npy", loudness * np.sin(2 * np.pi * np.arange(1280) / period))
    return root


def test_a_study_of_signals_ends_with_the_baselines_and_each_level_on_its_page(tmp_path, command):
    tones = recordings(tmp_path / "tones", 1.0)
    study = Study(
        task="signals",
        task_options={"class_weights": "balanced"},
        network="foveate:drsn_plain_1d_6",
        variants=["none", "drsn_cw"],
        seeds=1,
        control="none",
        metric="accuracy at 0 dB",
        data={
            "source": str(tones),
            "options": {"window": 64, "hop": 32, "noise": "pink", "snr_db": [10, 0], "scale": "training"},
        },
        train={"epochs": 1, "batch_size": 16},
    )
    summary = run(study, tmp_path / "out")
    assert summary.about["further_baselines"][SPECTRUM]["accuracy at +10 dB"] == 1
    assert [arm.label for arm in summary.arms] == ["none", "drsn_cw"]
    assert {"accuracy at +10 dB", OF_RECORDINGS} <= {metric.name for metric in summary.metrics}
    page = write_report(summary, tmp_path / "report").read_text(encoding="utf-8")
    assert f"Baseline, {SPECTRUM}: " in page
    assert "without a common sample" in page
    other = recordings(tmp_path / "louder", 3.0)
    found = evaluate_run(f"{tmp_path / 'out'}:drsn_cw:0", str(other))
    assert found.data.test.scaling == open_data(study.data).test.scaling, "of the data that it was trained on"
    assert set(found.scores.values) == {metric.name for metric in found.task.metrics}
    predict = ("predict", other, "--run", f"{tmp_path / 'out'}:drsn_cw:0")
    status, _, err = command(*predict, "--out", tmp_path / "found")
    assert (status, err) == (0, "")
    rows, windows = (
        list(csv.DictReader((tmp_path / "found" / name).read_text(encoding="utf-8").splitlines()))
        for name in ("predictions.csv", "windows.csv")
    )
    assert [(row["file"], row["windows"]) for row in rows] == [("fast/3.0.npy", "20"), ("slow/3.0.npy", "20")]
    assert len(windows) == 40
    assert {"class", "score fast", "score slow"} <= set(rows[0]) & set(windows[0])
    np.save(other / "slow" / "short.npy", np.arange(9.0))
    status, out, err = command(*predict)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "short.npy: has 9 samples; wanted at least window = 64" in err
