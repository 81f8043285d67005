"""A study's folder without running anything: notes, merging, tables; from rows that nobody trained."""

import csv
import json
import sys
from types import SimpleNamespace
from typing import ClassVar

import pyarrow.parquet
import pytest

from foveate.cli import study_folder
from foveate.cli.study_folder import _table
from foveate.spec import DataSpec, Run, Study, Training, Variant
from foveate.store import Store
from foveate.study import status, summarise
from foveate.study.export import export
from foveate.study.folder import lock_folder, write_study
from foveate.study.merge import merge
from foveate.study.mirror import Mirrors, open_mirrors
from foveate.study.notes import add_note, read_notes
from foveate.study.standing import Standing
from foveate.summary import Arm, to_json


def planned(arm, seed):
    variant = Variant.model_validate({"attention": "none"} if arm == "none" else arm)
    return Run(arm=arm, network="foveate:resnet8", variant=variant, data=DataSpec(), train=Training(), seed=seed)


def result(value, machine="a machine"):
    metrics = [{"name": "accuracy", "unit": "fraction", "better": "higher", "value": value}]
    metrics.append({"name": "seconds", "unit": "s", "better": "neither", "value": hash((value, machine)) % 100})
    history = [{"epoch": epoch, "train_loss": 1.0 / epoch} for epoch in (1, 2)]
    return {"metrics": metrics, "history": history, "machine": machine, "versions": {"python": "3"}}


def made(folder, seeds, *, todo=(), machine="a machine", changed=0.0, content="same", **study):
    """A folder with both arms of these seeds done, those of `todo` not; `changed` is added to each accuracy."""
    folder.mkdir()
    study = {"variants": (Variant.model_validate("se"),), "control": "none"} | study
    write_study(folder, Study(seeds=(*seeds, *todo), **study))
    store = Store(folder / "results.db")
    runs = [planned(arm, seed) for seed in (*seeds, *todo) for arm in ("none", "se")]
    store.plan(runs)
    for run in runs:
        if run.seed in seeds:
            store.start(run.key)
            store.finish(run.key, result(0.5 + run.seed / 100 + 0.1 * (run.arm == "se") + changed, machine))
            (folder / "runs" / run.key).mkdir(parents=True)
            (folder / "runs" / run.key / "model.safetensors").write_text(str(run.seed))
    store.set_meta("metrics", [{"name": "accuracy", "unit": "fraction", "better": "higher", "shown": "percent"}])
    store.set_meta("arms", [to_json(Arm("none", "plain")), to_json(Arm("se", "attention", {"attention": "se"}))])
    store.set_meta("runs", [run.key for run in runs])
    store.set_meta("content", {"data": content, "weights": "", "code": ""})
    store.set_meta("measured", ["accuracy", "seconds"])
    store.set_meta("about", {"name": "digits", "notes": []})
    store.close()
    return folder


def results(folder):
    summary = summarise(folder)
    return {arm.label: dict(arm.score.of_seeds()) for arm in summary.arms}


def test_two_folders_of_one_study_are_one_with_the_runs_of_both(tmp_path):
    ours = made(tmp_path / "ours", (0, 1), todo=(3,))
    theirs = made(tmp_path / "theirs", (1, 2, 3), machine="another machine")
    add_note(ours, "ours")
    add_note(theirs, "theirs", "se", 2)
    found = merge(ours, theirs, tmp_path / "both")
    assert (found.runs, found.both, found.unequal) == (8, 2, ())
    assert results(tmp_path / "both")["se"] == pytest.approx({0: 0.6, 1: 0.61, 2: 0.62, 3: 0.63})
    assert status(tmp_path / "both")["states"] == {"done": 8, "running": 0, "todo": 0, "failed": 0}
    assert {path.read_text() for path in (tmp_path / "both").glob("runs/*/model.safetensors")} == set("0123")
    assert [note["text"] for note in read_notes(tmp_path / "both")] == ["ours", "theirs"]
    assert results(ours)["se"] == pytest.approx({0: 0.6, 1: 0.61}), "neither is changed"
    notes = summarise(tmp_path / "both").about["notes"]
    assert any(
        "2 types of machine (a machine; another machine); all runs of a seed are on one" in note for note in notes
    )


def test_runs_that_differ_are_told_and_the_first_folders_kept(tmp_path):
    found = merge(
        made(tmp_path / "a", (0, 1)), made(tmp_path / "b", (1,), changed=0.125, machine="m"), tmp_path / "both"
    )
    assert found.both == 0
    assert len(found.unequal) == 2
    assert "none, seed 1: accuracy is 0.51 and 0.635, on a machine and m; " in found.unequal[0]
    assert results(tmp_path / "both")["none"] == pytest.approx({0: 0.5, 1: 0.51})
    assert any("accuracy is 0.51 and 0.635" in note for note in summarise(tmp_path / "both").about["notes"])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"network": "foveate:resnet20"}, r"two studies \(network: 'foveate:resnet8' and 'foveate:resnet20'\)"),
        ({"train": Training(epochs=3)}, r"two studies \(train.epochs: 20 and 3\)"),
        ({"matters": 3.0}, r"two studies \(matters: None and 3.0\)"),
        ({"content": "changed"}, r"data, weights or code differ: data: 'same' and 'changed'"),
    ],
)
def test_different_studies_are_not_merged(tmp_path, other, message):
    ours = made(tmp_path / "ours", (0,), train=Training(epochs=20))
    theirs = made(tmp_path / "theirs", (1,), **({"train": Training(epochs=20)} | other))
    with pytest.raises(ValueError, match=message):
        merge(ours, theirs, tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_a_folder_that_is_in_use_or_there_already_is_not_merged(tmp_path):
    ours, theirs = made(tmp_path / "ours", (0,)), made(tmp_path / "theirs", (1,))
    with pytest.raises(ValueError, match="wanted a folder that is not there yet"):
        merge(ours, theirs, theirs)
    with pytest.raises(ValueError, match="--out: wanted a folder outside .*theirs"):
        merge(ours, theirs, theirs / "both")
    with pytest.raises(ValueError, match="wanted two folders"):
        merge(ours, ours, tmp_path / "both")
    with lock_folder(theirs), pytest.raises(ValueError, match="is in use by process"):
        merge(ours, theirs, tmp_path / "both")


def test_notes_are_checked_and_reach_the_report(tmp_path):
    folder = made(tmp_path / "study", (0, 1))
    add_note(folder, "the fan was broken", "se", 1)
    add_note(folder, "all of it")
    with open(folder / "notes.jsonl", "a") as file:
        file.write('{"when": "cut sho')
    notes = summarise(folder).about["notes"]
    assert any("on se, seed 1: the fan was broken" in note for note in notes)
    assert any(note.endswith(": all of it") for note in notes)
    for arguments, message in (
        (("x", "sse"), "did you mean 'se'"),
        (("x", "se", 7), "no seed 7"),
        (("x", None, 1), "goes with its arm"),
        (("",), "wanted one line"),
        (("a\nb",), "wanted one line"),
    ):
        with pytest.raises(ValueError, match=message):
            add_note(folder, *arguments)
    assert len(read_notes(folder)) == 2


def test_rows_are_exported_to_csv_and_parquet(tmp_path, monkeypatch):
    folder = made(tmp_path / "study", (0, 1), todo=(2,))
    assert export(folder, tmp_path / "rows.csv") == 8
    assert export(folder, tmp_path / "curves.parquet", curves=True) == 8
    with open(tmp_path / "rows.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["arm"], row["seed"], row["value"]) for row in rows if row["metric"] == "accuracy"} == {
        ("none", "0", "0.5"), ("none", "1", "0.51"), ("se", "0", "0.6"), ("se", "1", "0.61"),
    }  # fmt: skip
    curves = pyarrow.parquet.read_table(tmp_path / "curves.parquet").to_pylist()
    assert curves[0] | {"run": ""} == {
        "run": "", "arm": curves[0]["arm"], "seed": curves[0]["seed"], "epoch": 1, "metric": "train_loss", "value": 1.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="ends in .csv or .parquet"):
        export(folder, tmp_path / "rows.xls")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match="pip install 'foveate"):
        export(folder, tmp_path / "rows.parquet")


def test_status_says_how_far_the_runs_at_work_are(tmp_path):
    folder = made(tmp_path / "study", (0,), todo=(1,))
    key = next(run["key"] for run in status(folder)["runs"] if run["state"] == "todo")
    store = Store(folder / "results.db")
    store.start(key)
    store.close()
    with lock_folder(folder), Standing(folder) as standing:
        standing.begin(key)
        standing.reached(key, 3, 12)
        found = status(folder)
        assert found["working"]
        assert json.loads(json.dumps(found))["states"] == {"done": 2, "running": 1, "todo": 1, "failed": 0}
        (running,) = [run for run in found["runs"] if run["state"] == "running"]
        assert running["progress"] == (3, 12)
        table = _table(found)
        assert "seed 1, 25 %" in list(table.columns[-1].cells)
    assert not status(folder)["working"]


def test_a_mirror_has_the_curves_and_the_final_metrics(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (mirror,) = open_mirrors("tensorboard", tmp_path)
    mirror.write(planned("se", 3), result(0.75))
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name.startswith("se, seed 3")
    found = EventAccumulator(str(folder)).Reload()
    assert [(event.step, event.value) for event in found.Scalars("train_loss")] == [(1, 1.0), (2, 0.5)]
    assert found.Scalars("final/accuracy")[0].value == 0.75


class MlflowClient:
    """As much of MLflow as a mirror uses."""

    experiments: ClassVar[dict] = {}

    def __init__(self, address):
        self.address, self.runs = address, {}
        type(self).last = self

    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def create_experiment(self, name):
        self.experiments[name] = SimpleNamespace(experiment_id="7")
        return "7"

    def create_run(self, experiment, run_name):
        self.runs[run_name] = [experiment]
        return SimpleNamespace(info=SimpleNamespace(run_id=run_name))

    def log_param(self, run, name, value):
        self.runs[run].append((name, value))

    def log_batch(self, run, metrics):
        self.runs[run] += [(name, value, epoch) for name, value, _, epoch in metrics]

    def set_terminated(self, run):
        self.runs[run].append("ended")


def test_a_mirror_to_mlflow_has_an_experiment_of_the_study_and_names_that_it_takes(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=MlflowClient))
    monkeypatch.setitem(sys.modules, "mlflow.entities", SimpleNamespace(Metric=lambda *values: values))
    monkeypatch.setitem(sys.modules, "sqlalchemy", SimpleNamespace())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (mirror,) = open_mirrors("mlflow", tmp_path)
    made = result(0.75)
    mirror.write(planned("none", 2), made)
    made["metrics"][0]["name"] = "iou (class 1)"
    mirror.write(planned("se", 3), made)
    client = MlflowClient.last
    assert client.address == f"sqlite:///{tmp_path}/mlflow.db"
    _, (name, run) = client.runs.items()
    assert name.startswith("se, seed 3 (")
    facts = [("arm", "se"), ("network", "foveate:resnet8"), ("seed", 3)]
    assert run[:4] == ["7", *facts]
    assert {("final/iou _class 1_", 0.75, 0), ("train_loss", 1.0, 1), ("train_loss", 0.5, 2)} < set(run[4:])
    assert run[-1] == "ended"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    (mirror,) = open_mirrors("mlflow", tmp_path)
    mirror.write(planned("se", 3), made)
    assert MlflowClient.last.address == "http://server"


def test_a_mirror_to_trackio_has_the_curves_by_epoch_and_prints_nothing(tmp_path, monkeypatch, capsys):
    seen = []

    def init(**settings):
        print("Trackio project initialized")  # noqa: T201
        seen.append((settings["project"], settings["config"]["seed"]))
        return SimpleNamespace(log=lambda values, step=None: seen.append((step, values)))

    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=init, finish=lambda: seen.append("ended")))
    (mirror,) = open_mirrors("trackio", tmp_path)
    mirror.write(planned("se", 3), result(0.75))
    assert seen[:3] == [(tmp_path.name, 3), (1, {"train_loss": 1.0}), (2, {"train_loss": 0.5})]
    assert seen[3][1]["final/accuracy"] == 0.75
    assert seen[4] == "ended"
    assert capsys.readouterr().out == ""


def test_a_mirror_that_fails_gets_no_further_runs_and_the_others_do():
    class Broken:
        def write(self, run, result):
            raise OSError(28, "No space left on device")

    class Whole(list):
        def write(self, run, result):
            self.append(run.seed)

    whole = Whole()
    mirrors = Mirrors([Broken(), whole])
    with pytest.warns(UserWarning, match="Broken gets no runs from now on: .*No space left"):
        mirrors.write(planned("se", 3), result(0.75))
    mirrors.write(planned("se", 4), result(0.75))
    assert whole == [3, 4]


def test_a_mirror_that_there_is_not_is_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="did you mean 'tensorboard'"):
        open_mirrors("tensorbord", tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        open_mirrors("tensorboard", tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ValueError, match="--mirror mlflow: it is not installed .*; pip install mlflow"):
        open_mirrors("mlflow", tmp_path)


def test_the_commands_of_a_folder_say_what_they_did(tmp_path, capsys):
    ours, theirs = made(tmp_path / "ours", (0,)), made(tmp_path / "theirs", (0, 1), changed=0.25)
    study_folder.status(ours, watch=True)  # ends at once, as no process works on it
    study_folder.note(ours, "a note", arm="se", seed=0)
    study_folder.merge(ours, theirs, out=tmp_path / "both")
    study_folder.export(tmp_path / "both", out=tmp_path / "rows.csv")
    told = capsys.readouterr()
    assert "2 done, 0 running" in told.out
    assert "both: 4 finished runs" in told.out
    assert "rows.csv: 8 rows" in told.out
    assert told.err.count("unequal: ") == 2
    with pytest.raises(ValueError, match="no process works on it"):
        study_folder.pause(ours)
    with lock_folder(ours):
        study_folder.pause(ours)
    assert status(ours)["paused"]
