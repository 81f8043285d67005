"""One machine used fully: how many runs at a time, and the settings that a few timed steps choose."""

import json

import pytest
from in_process import run, small

from foveate.data import open_data
from foveate.files import read_json, write_json
from foveate.spec import Variant
from foveate.study.local import least_used
from foveate.study.placement import place
from foveate.study.plan import Planner
from foveate.study.speed import SETTINGS, choose, in_words
from foveate.study.trial import memory_of_runs
from foveate.study.worker import perform
from foveate.tasks import create_task
from foveate.train import TrainingFailed

GIB = 2**30


@pytest.mark.parametrize(
    ("cores", "threads", "free", "taken", "jobs", "a_gpu"),
    [
        (16, 1, (), 0, 16, 0),
        (16, 4, (), 0, 4, 0),
        (2, 4, (), 0, 1, 0),
        (16, 1, (80 * GIB,), 10 * GIB, 7, 7),  # 72 GiB for runs of 10
        (16, 1, (80 * GIB,), 2 * GIB, 16, 16),  # the cores are the limit
        (16, 1, (80 * GIB, 40 * GIB), 10 * GIB, 6, 3),  # as many on each as the fuller one takes
        (4, 1, (80 * GIB,) * 8, GIB, 8, 1),  # every GPU has one
        (16, 1, (8 * GIB,), 10 * GIB, 1, 1),  # it is tried, and says why if it fails
    ],
)
def test_runs_at_a_time_follow_from_cores_and_measured_memory(cores, threads, free, taken, jobs, a_gpu):
    found = place(cores, threads, free, taken)
    assert (found.jobs, found.a_gpu) == (jobs, a_gpu)


def test_the_words_say_what_was_measured_and_what_limits():
    assert place(16, 1, (80 * GIB,), 10 * GIB).text == (
        "7 at a time, 7 on each of 1 GPU: a run takes 10.0 of 80.0 GiB, measured; limited by memory"
    )
    assert place(16, 1, (80 * GIB,), GIB).text.endswith("limited by cores")


def test_a_run_goes_to_the_gpu_with_the_fewest():
    assert least_used(["0", "1", "2"], []) == "0"
    assert least_used(["0", "1", "2"], ["0", "0", "1", "2"]) == "1"


def row(setting, ms, ratio=(1, 1, 1), first_s=0.0, error=""):
    times = None if error else {"median": ms, "low": ms, "high": ms}
    interval = None if error else dict(zip(("median", "low", "high"), ratio, strict=True))
    return {"setting": setting, "ms": times, "ratio": interval, "first_s": first_s, "error": error}


def test_the_fastest_setting_for_sure_is_chosen_and_compiling_has_to_pay():
    plain, amp, last, compiled, broken = (
        {"amp": False, "compile": False}, {"amp": True, "compile": False},
        {"channels_last": True, "compile": False}, {"compile": True}, {"amp": True, "compile": True},
    )  # fmt: skip
    rows = [
        row(plain, 100),
        row(last, 90, (0.9, 0.79, 1.01)),  # may be as fast
        row(amp, 95, (0.95, 0.93, 0.97)),
        row(compiled, 50, (0.5, 0.48, 0.52), first_s=30.0),
        row(broken, 0, error="no compiler"),
    ]
    assert choose(rows, steps=100) == amp
    assert choose(rows, steps=10_000) == compiled
    assert choose(rows[:2], steps=10_000) == plain
    words = in_words(rows, amp)
    assert "every arm trains with bfloat16, chosen by the time" in words
    assert "channels-last 0.90 (0.79 to 1.01)" in words
    assert "bfloat16 + torch.compile failed: no compiler" in words


def timed(folder, content):
    """The job in this process."""
    write_json(folder / "trial.json", content)
    return perform(folder)


def test_a_fast_study_measures_once_trains_every_arm_alike_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.study.speed.SETTINGS", SETTINGS[:2])
    monkeypatch.setattr("foveate.study.speed.run_alone", lambda folder, job, failed: timed(tmp_path, job.content))
    monkeypatch.setattr(
        "foveate.study.speed.choose", lambda rows, steps: {"channels_last": True} if len(rows) == 2 else {}
    )
    study = small("se", fast=True)
    summary = run(study, tmp_path)
    found = read_json(tmp_path / "speed.json")
    assert found["chosen"] == {"channels_last": True}
    assert [one["setting"]["channels_last"] for one in found["rows"]] == [False, True]
    assert all(one["ms"]["median"] > 0 for one in found["rows"])
    assert any(note.startswith("every arm trains with channels-last") for note in summary.about["notes"])
    runs = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/run.json")]
    assert len(runs) == 2
    assert all(one["train"]["channels_last"] for one in runs)
    monkeypatch.setattr("foveate.study.speed._measured", lambda *_: pytest.fail("measured again"))
    run(study, tmp_path)
    with pytest.raises(ValueError, match="fast: True there, False now"):
        run(small("se"), tmp_path)


def test_a_fast_study_that_names_a_setting_is_refused(tmp_path):
    study = small(fast=True)
    given = study.model_copy(update={"train": study.train.model_copy(update={"amp": True})})
    with pytest.raises(ValueError, match=r"fast chooses amp, channels_last, compile by time; got train.amp = true"):
        run(given, tmp_path)


def test_memory_is_that_of_a_few_real_steps_and_a_network_that_cannot_be_compiled_says_so(monkeypatch):
    study = small("se")
    data = open_data(study.data)
    task = create_task("classification", data)
    planner = Planner(study, data, task)
    arms = {"none": planner.run(Variant())}
    assert 50 * 2**20 < memory_of_runs(arms, task, data)["none"] < 64 * GIB

    class BackendCompilerFailed(RuntimeError):
        __module__ = "torch._dynamo.exc"

    def broken(model):
        def call(*_, **__):
            raise BackendCompilerFailed("no C++ compiler\nin a second line")

        return call

    monkeypatch.setattr("torch.compile", broken)
    compiled = arms["none"].model_copy(update={"train": study.train.model_copy(update={"compile": True})})
    with pytest.raises(
        TrainingFailed, match=r"torch.compile cannot compile this network \(no C\+\+ compiler in a second"
    ):
        memory_of_runs({"none": compiled}, task, data)


@pytest.mark.slow
def test_a_compiled_training_learns_what_an_uncompiled_one_learns(tmp_path):
    study = small(items=120)
    compiled = study.model_copy(update={"train": study.train.model_copy(update={"compile": True})})
    plain, other = (run(one, tmp_path / name).arm("none").estimates["loss"].mean for name, one in
                    (("plain", study), ("compiled", compiled)))  # fmt: skip
    assert other == pytest.approx(plain, abs=0.05)
