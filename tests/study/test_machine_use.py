"""One machine used fully: how many runs at a time, and the settings that a few timed steps choose."""

import json

import pytest
from in_process import run, small

from foveate.cli.cluster import jobs_here
from foveate.data import open_data
from foveate.files import read_json, write_json
from foveate.spec import Run, Variant
from foveate.store import Store
from foveate.study.folder import write_study
from foveate.study.local import least_used
from foveate.study.placement import place, placement
from foveate.study.plan import Planner
from foveate.study.speed import SETTINGS, choose, in_words
from foveate.study.trial import WARM_UP, memory_of_runs, times_of_settings
from foveate.study.worker import perform
from foveate.tasks import create_task
from foveate.train import repeated_step

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
    (tmp_path / "other").mkdir()
    write_study(tmp_path / "other", small("se"))
    with pytest.raises(ValueError, match="fast: False there, True now"):  # before anything is measured
        run(study, tmp_path / "other")


def test_a_fast_study_that_names_a_setting_is_refused(tmp_path):
    study = small(fast=True)
    given = study.model_copy(update={"train": study.train.model_copy(update={"amp": True})})
    with pytest.raises(ValueError, match=r"fast chooses amp, channels_last, compile by time; got train.amp = true"):
        run(given, tmp_path)


class Gpu:
    """In place of torch.cuda: its driver gives 7 bytes before training, and 100 for each step of the loop."""

    def __init__(self, monkeypatch):
        self.steps = 0

        def counted(run, *rest):
            step = repeated_step(run, *rest)

            def one():
                self.steps += 1
                step()

            return one

        monkeypatch.setattr("foveate.study.trial.repeated_step", counted)
        for name, value in {
            "empty_cache": lambda: None, "reset_peak_memory_stats": lambda: None, "memory_reserved": lambda: 3,
            "mem_get_info": lambda *_: (90, 100), "max_memory_reserved": lambda: 100 * self.steps,
        }.items():  # fmt: skip
            monkeypatch.setattr(f"torch.cuda.{name}", value)


def test_memory_is_that_of_a_few_real_steps_and_a_run_that_fails_has_none(monkeypatch, capsys):
    gpu, study = Gpu(monkeypatch), small("se")
    data = open_data(study.data)
    task = create_task("classification", data)
    planner = Planner(study, data, task)
    run = planner.run(Variant())
    broken = run.model_copy(update={"network": "foveate:resnet9"})
    assert memory_of_runs({"broken": broken, "none": run}, task, data) == {"none": 7 + 100 * WARM_UP}
    assert gpu.steps == WARM_UP
    assert "resnet9" in capsys.readouterr().err


def test_a_network_that_cannot_be_compiled_says_so(monkeypatch):
    study = small()
    data = open_data(study.data)
    task = create_task("classification", data)

    class BackendCompilerFailed(RuntimeError):
        __module__ = "torch._dynamo.exc"

    def broken(model):
        def call(*_, **__):
            raise BackendCompilerFailed("no C++ compiler\nin a second line")

        return call

    monkeypatch.setattr("torch.compile", broken)
    compiled = Planner(study, data, task).run(Variant())
    with pytest.raises(ValueError, match=r"torch.compile cannot compile this network \(no C\+\+ compiler in a second"):
        times_of_settings(compiled, [{"compile": True}], task, data)


def of(arm, **train):
    """A run on a GPU."""
    study = small("se")
    run = Run(arm=arm, network=study.network, variant=Variant(), data=study.data, train=study.train, seed=0)
    return run.model_copy(update={"train": run.train.model_copy(update={"device": "cuda", **train})})


def test_memory_is_measured_once_for_each_arm_batch_and_optimizer_and_not_for_a_trainer(tmp_path, monkeypatch):
    measurements = []

    def measured(folder, job, failed):
        measurements.append(list(job.content["runs"]))
        return {"bytes": {label: 20 * GIB for label in job.content["runs"] if not label.startswith("broken")}}

    monkeypatch.setattr("foveate.study.placement.run_alone", measured)
    for name, value in {
        "device_count": lambda: 2, "get_device_name": lambda number: "a GPU", "mem_get_info": lambda n: (80 * GIB, 0),
    }.items():  # fmt: skip
        monkeypatch.setattr(f"torch.cuda.{name}", value)
    monkeypatch.setattr("foveate.study.placement.cores", lambda: 16)
    study = small("se", train=of("se").train)
    store = Store(tmp_path / "results.db")
    runs = [of("se"), of("se", batch_size=40), of("se", optimizer="sgd"), of("se", lr=0.1)]
    assert placement(study, tmp_path, runs, store).a_gpu == 3
    assert placement(study, tmp_path, [*runs, of("broken")], store).a_gpu == 3
    of_broken = ["broken, batch of 20, adamw"]
    assert [sorted(one) for one in measurements] == [
        ["se, batch of 20, adamw", "se, batch of 20, sgd", "se, batch of 40, adamw"], of_broken,
    ]  # fmt: skip
    found = placement(study, tmp_path, [of("broken")], store)
    assert (found.jobs, found.a_gpu) == (2, 1)
    assert found.text.startswith("2 at a time, 1 on each GPU: the training steps fail, see ")
    own = study.model_copy(update={"trainer": "my.py:train"})
    assert placement(own, tmp_path, runs, store).text.endswith("a trainer of one's own takes is not known")
    store.close()


def test_a_share_of_a_gpu_is_that_many_runs_on_each_and_needs_one(monkeypatch):
    for message, share, device, there in (
        ("this machine has no GPU", 0.5, "cuda", False),
        (r"wanted runs on a GPU \(--device cuda\); got runs on 'cpu'", 0.5, "cpu", True),
        ("wanted more than 0 and at most 1.*; got 2", 2, "cuda", True),
        ("wanted more than 0 and at most 1.*; got 0", 0, "cuda", True),
    ):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        with pytest.raises(ValueError, match=f"--gpus-per-run: {message}"):
            jobs_here(None, share, device)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert jobs_here(None, 0.25, "cuda") == 8
    assert jobs_here(None, 0.1, "cuda:1") == 10
    assert jobs_here(3, 0.25, "cuda") == 3
    assert jobs_here(3, None, "cpu") == 3


@pytest.mark.slow
def test_a_compiled_training_learns_what_an_uncompiled_one_learns(tmp_path):
    study = small(items=120)
    compiled = study.model_copy(update={"train": study.train.model_copy(update={"compile": True})})
    plain, other = (run(one, tmp_path / name).arm("none").estimates["loss"].mean for name, one in
                    (("plain", study), ("compiled", compiled)))  # fmt: skip
    assert other == pytest.approx(plain, abs=0.05)
