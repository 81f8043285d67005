"""A study in its folder: killed and gone on with, held by one, planned before anything runs."""

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from typing import ClassVar

import pytest
from in_process import run

from foveate.files import read_json, write_json
from foveate.spec import DataSpec, Study, Training, Variant
from foveate.study import Watcher, run_study, status, summarise
from foveate.study.executor import Job
from foveate.study.folder import is_paused, set_paused, write_study
from foveate.study.forking import ForkServer
from foveate.study.local import LocalProcesses
from foveate.study_file import read_study

SMALL = DataSpec(train_items=128, test_items=50)


def small_study(*attention, seeds=(0, 1), epochs=2, **changes):
    variants = tuple(Variant.model_validate(name) for name in ("none", *attention))
    train = Training(epochs=epochs, batch_size=16)
    return Study(variants=variants, seeds=seeds, data=SMALL, train=train, **({"control": "none"} | changes))


def not_failed(*arguments, **options):
    return run_study(*arguments, **options).failed == ()


def rows(folder):
    """Everything of the results that does not measure time."""
    with sqlite3.connect(folder / "results.db") as db:
        timed = "('seconds')"
        metrics = db.execute(f"SELECT run, seed, metric, value FROM results WHERE metric NOT IN {timed} ORDER BY 1, 3")
        history = db.execute("SELECT run, epoch, metric, value FROM history ORDER BY 1, 2, 3")
        return metrics.fetchall(), history.fetchall()


def start(folder, *flags):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "foveate", "study", "resume", str(folder), *flags]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers(folder):
    found = subprocess.run(
        ["pgrep", "-f", f"foveate.study.(worker|forking) {folder}"], capture_output=True, text=True, check=False
    )
    return found.stdout.split()


def wait_until(condition, seconds=90.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_killed_twice_it_ends_with_the_rows_of_an_unbroken_study(tmp_path):
    study = small_study("se", "eca", seeds=(0,), epochs=12)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(study, whole).failed == ()
    broken.mkdir()
    (broken / "study.toml").write_text((whole / "study.toml").read_text())
    for done in range(2):
        process = start(broken)
        reached = wait_until(
            lambda done=done: (
                len(list(broken.glob("runs/*/checkpoint.safetensors"))) >= 1
                and (broken / "results.db").is_file()
                and status(broken)["states"]["done"] >= done
            )
        )
        assert reached, process.communicate()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
        assert wait_until(lambda: not workers(broken), 10), "workers die with their coordinator"
    attempts = {run["key"]: run["attempts"] for run in status(broken)["runs"]}
    finished_before = [run["key"] for run in status(broken)["runs"] if run["state"] == "done"]
    last = start(broken)
    out, err = last.communicate(timeout=120)
    assert last.returncode == 0, err
    assert rows(broken) == rows(whole)
    after = {run["key"]: run["attempts"] for run in status(broken)["runs"]}
    assert finished_before
    assert all(after[key] == attempts[key] for key in finished_before), "a finished run is not run again"
    assert sum(after.values()) > len(after), "some were cut short and went on"
    assert "report:" in out


def test_two_processes_in_one_folder(tmp_path):
    study = small_study(epochs=2)
    folder = tmp_path / "study"
    folder.mkdir()
    write_study(folder, study)
    first = start(folder)
    assert wait_until(lambda: (folder / ".lock").is_file() and (folder / ".lock").read_text())
    first.send_signal(signal.SIGSTOP)  # so that it is there however long the others take to start
    second = start(folder)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 2
    assert "is in use by process" in err
    assert str(first.pid) in err
    assert len(err.strip().splitlines()) == 1
    third = start(folder, "--wait")
    assert any("waiting for process" in line for line in third.stderr)
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    _, err = third.communicate(timeout=60)
    assert third.returncode == 0, err
    assert all(run["attempts"] == 1 for run in status(folder)["runs"])
    assert len(status(folder)["runs"]) == len(study.seeds)


def test_a_run_that_diverges_is_told_and_the_others_go_on(tmp_path):
    study = small_study(seeds=(0,)).model_copy(update={"train": Training(epochs=1, batch_size=16, lr=1e30)})
    assert run_study(study, tmp_path).failed
    (run,) = status(tmp_path)["runs"]
    assert run["state"] == "failed"
    assert run["attempts"] == 1, "what would fail the same way is not tried again"
    assert "the loss is" in run["error"]
    assert "learning rate" in run["error"]
    summary = summarise(tmp_path)
    assert summary.failed[0].seed == 0


def test_a_killed_worker_is_started_again_and_goes_on(tmp_path, own_server):
    class Killer(Watcher):
        killed = 0

        def progressed(self, run, step, steps):
            if step > steps // 2 and not self.killed:
                self.killed += 1
                for pid in workers(tmp_path):
                    os.kill(int(pid), signal.SIGKILL)

    killer = Killer()
    assert not_failed(small_study(seeds=(0,), epochs=20), tmp_path, jobs=1, watcher=killer)
    (run,) = status(tmp_path)["runs"]
    assert (killer.killed, run["state"], run["attempts"]) == (1, "done", 2)


@pytest.mark.skipif(sys.platform != "linux", reason="jobs are forks on Linux only")
def test_a_start_that_is_interrupted_leaves_no_pipe_open(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("foveate.study.forking.subprocess.Popen", lambda *_, **__: None)
    monkeypatch.setattr("foveate.study.forking.socket.send_fds", interrupted)
    with open(tmp_path / "log.txt", "wb") as log:
        server = ForkServer(tmp_path, {}, "foveate", log)
        before = os.listdir("/proc/self/fd")
        with pytest.raises(KeyboardInterrupt) as caught:
            server.start(tmp_path, log)
        assert len(os.listdir("/proc/self/fd")) == len(before), caught
        server._socket.close()


def test_a_study_may_grow_but_not_become_another(tmp_path):
    run(small_study(seeds=(0,), epochs=1), tmp_path)
    before = rows(tmp_path)[0]
    run(small_study(seeds=(0, 1), epochs=1), tmp_path)
    assert set(before) < set(rows(tmp_path)[0])
    assert [run["attempts"] for run in status(tmp_path)["runs"]] == [1, 1]
    assert len(list((tmp_path / "runs").glob("*/examples.png"))) == 1, "of the first seed"
    with pytest.raises(ValueError, match=r"holds another study \(train.epochs: 1 there, 2 now\)"):
        run_study(small_study(seeds=(0,), epochs=2), tmp_path)
    write_study(tmp_path, small_study(seeds=(0, 1), epochs=3))  # as a person may change it
    with pytest.raises(ValueError, match=r"holds another study \(train.epochs: 1 there, 3 now\)"):
        run_study(read_study(tmp_path / "study.toml"), tmp_path)
    assert json.loads(json.dumps(status(tmp_path)))["states"]["done"] == 2


def test_everything_is_checked_before_anything_runs(tmp_path):
    folder = tmp_path / "study"
    with pytest.raises(ValueError, match="variant 'cbma': .*did you mean 'cbam'"):
        run_study(small_study("cbma"), folder)
    wrong = [
        (Variant(attention="se", options={"reduction": 64}), "variant 'se .*: se: channels // reduction must be"),
        (Variant(attention="se", options={"reducton": 4}), "variant 'se .*did you mean 'reduction'"),
        (Variant(attention="se", at="layer9.*"), "variant 'se .*layer9"),
    ]
    for variant, message in wrong:
        with pytest.raises(ValueError, match=message):
            run_study(small_study().model_copy(update={"variants": (Variant(), variant)}), folder)
    with pytest.raises(ValueError, match="did you mean 'resnet"):
        run_study(small_study(network="foveate:resnet9"), folder)
    assert not (folder / "runs").exists()


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        run_study(small_study(), tmp_path / "file" / "study")


def test_a_result_cut_short_or_results_taken_away_do_not_end_a_study(tmp_path):
    study = small_study(seeds=(0,), epochs=1)
    run_study(study, tmp_path)
    before = rows(tmp_path)
    (tmp_path / "results.db").unlink()
    assert not_failed(study, tmp_path)
    assert rows(tmp_path) == before
    (run,) = status(tmp_path)["runs"]
    assert run["attempts"] == 0, "taken up from what runs/ holds"
    (tmp_path / "results.db").unlink()
    (tmp_path / "runs" / run["key"] / "result.json").write_text('{"metr')
    assert not_failed(study, tmp_path)
    assert rows(tmp_path) == before
    path = tmp_path / "runs" / run["key"] / "result.json"
    result = read_json(path)
    result["metrics"].append(result["metrics"][0] | {"name": "of another trainer"})
    write_json(path, result)
    with sqlite3.connect(tmp_path / "results.db") as db:
        db.executescript("UPDATE runs SET state = 'todo'; DELETE FROM metrics; DELETE FROM history")
    (failed,) = run_study(study, tmp_path).failed
    assert "metric 'of another trainer' is new: other runs of this study gave" in failed.error


def test_a_study_killed_while_it_is_planned_can_be_gone_on_with(tmp_path):
    class Stopped(Exception):
        pass

    class Stop(Watcher):
        def planned(self, *_):
            raise Stopped

    with pytest.raises(Stopped):
        run_study(small_study(seeds=(0,), epochs=1), tmp_path, watcher=Stop())
    assert read_study(tmp_path / "study.toml").seeds == (0,)
    assert status(tmp_path)["states"]["done"] == 0


def test_what_the_worker_could_not_measure_is_told_in_one_line(tmp_path):
    study = small_study(seeds=(0,), network="timm:resnet18")
    study = study.model_copy(
        update={"train": Training(epochs=1, batch_size=1), "data": SMALL.model_copy(update={"size": (16, 16)})}
    )
    with pytest.raises(RuntimeError, match=r"^the costs could not be measured: Expected more than 1 value.*$") as told:
        run_study(study, tmp_path)
    assert len(str(told.value).splitlines()) == 1


def test_a_folder_that_takes_no_more_is_told_and_the_study_can_go_on(tmp_path):
    study = small_study(seeds=(0,), epochs=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))  # no file may grow beyond 600 bytes
    try:
        with pytest.raises(RuntimeError, match=r"once that is mended: foveate study resume"):
            run_study(study, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not_failed(study, tmp_path)


def test_a_folder_that_is_renamed_meanwhile_ends_the_study_which_goes_on_from_its_new_place(tmp_path):
    class Renamer(Watcher):
        def progressed(self, run, step, steps):
            if not (tmp_path / "new").exists():
                (tmp_path / "old").rename(tmp_path / "new")

    study = small_study(seeds=(0, 1), epochs=2)
    with pytest.raises(RuntimeError, match="No such file or directory; once that is mended: foveate study resume"):
        run_study(study, tmp_path / "old", jobs=1, watcher=Renamer())
    assert not (tmp_path / "old").exists()
    assert not_failed(study, tmp_path / "new")


def test_a_worker_that_crashes_leaves_the_reason_last_in_its_log(tmp_path):
    command = [sys.executable, "-m", "foveate.study.worker", str(tmp_path)]  # without a run.json
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
        last = worker.stderr.read().splitlines()[-1]
        assert worker.wait() == 4
    assert "FileNotFoundError" in last


@pytest.mark.parametrize("forked", [True, False], ids=["a fork", "a process of its own"])
def test_a_job_that_cannot_be_done_says_why(tmp_path, monkeypatch, forked):
    monkeypatch.setattr("foveate.study.local.can_fork", lambda: forked)
    jobs = [Job("wrong", "train", {"network": "foveate:resnet8"})]
    with LocalProcesses(tmp_path) as here:
        (ended,) = here.work(lambda: jobs.pop() if jobs else None, lambda key, news: None)
    assert ended.error is not None
    assert ended.error.endswith("validation errors for Run")
    assert "Traceback" in (tmp_path / "runs" / "wrong" / "log.txt").read_text()


def test_a_pause_that_comes_while_a_study_is_planned_counts(tmp_path, monkeypatch):
    def paused_meanwhile(study, store):
        set_paused(tmp_path, True)
        return study

    monkeypatch.setattr("foveate.study.run.with_seeds_added_before", paused_meanwhile)
    assert len(run(small_study(seeds=(0,), epochs=1), tmp_path).pending) == 1


def test_a_paused_study_stops_at_a_checkpoint_and_goes_on_from_there(tmp_path):
    class Pauser(Watcher):
        first: ClassVar[dict] = {}

        def progressed(self, run, step, steps):
            self.first.setdefault((run.key, self.first.get("start", 0)), step)
            if "start" not in self.first and step > 3:
                set_paused(tmp_path, True)

    pauser, study = Pauser(), small_study(seeds=(0, 1), epochs=12)
    paused = run_study(study, tmp_path, jobs=1, watcher=pauser)
    assert len(paused.pending) == 2, "neither the one at work nor the next was carried on"
    assert is_paused(tmp_path)
    (checkpoint,) = tmp_path.glob("runs/*/checkpoint.safetensors")
    pauser.first["start"] = 1
    assert not_failed(study, tmp_path, watcher=pauser)
    assert not is_paused(tmp_path)
    assert pauser.first[checkpoint.parent.name, 1] > pauser.first[checkpoint.parent.name, 0]
    assert [run["attempts"] for run in status(tmp_path)["runs"]] == [2, 1]
