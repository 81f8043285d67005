"""User code reaches every process of a study, from scripts, study files and the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import run

from foveate.spec import DataSpec, Study, Training, Variant

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"

OWN = """import torch
from torch import nn

import foveate


@foveate.register_attention("user_gate")
class UserGate(nn.Module):
    def __init__(self, channels, *, scale=1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), float(scale)))

    def forward(self, x):
        return x * self.scale
"""

STUDY = """
study = foveate.Study(
    variants=({"attention": "none"}, {"attention": "user_gate", "options": {"scale": 0.5}}),
    seeds=(0,),
    data={"train_items": 20, "test_items": 20},
    train={"epochs": 1},
    control="none",
)
"""
GUARDED = """
if __name__ == "__main__":
    summary = foveate.run_study(study, "out")
    print(summary.arm("user_gate (scale=0.5)").score.mean, summary.failed)
"""


def python(*arguments, cwd, timeout=240, **variables):
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=timeout, check=False
    )


def logs(folder):
    return {path: path.read_text() for path in folder.glob("runs/*/log.txt")}


def test_a_mechanism_registered_in_a_script_is_studied_by_that_script_even_where_warnings_are_errors(tmp_path):
    (tmp_path / "script.py").write_text(OWN + STUDY + GUARDED)
    answer = python("script.py", cwd=tmp_path, PYTHONWARNINGS="error")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.endswith("()\n")
    assert set(logs(tmp_path / "out").values()) == {""}, "a log holds only what is worth reading"


def test_a_script_without_the_guard_gets_the_reason_and_nothing_hangs(tmp_path):
    (tmp_path / "script.py").write_text(OWN + STUDY + 'foveate.run_study(study, "out")\n')
    answer = python("script.py", cwd=tmp_path)
    assert answer.returncode == 1
    last = answer.stderr.splitlines()[-1]
    assert "script.py cannot be read: RuntimeError in line" in last
    assert 'put the call under: if __name__ == "__main__":' in last


def test_what_is_defined_at_a_prompt_is_refused_before_anything_is_made(tmp_path):
    answer = python("-c", OWN + STUDY + 'foveate.run_study(study, "out")\n', cwd=tmp_path)
    assert answer.returncode == 1
    last = answer.stderr.splitlines()[-1]
    assert "attention 'user_gate' was defined at a prompt" in last
    assert 'imports = ["my.py"]' in last
    assert not (tmp_path / "out").exists()


def test_imports_of_a_study_file_count_from_its_folder_and_a_study_resumes_from_another(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "user_gate.py").write_text(OWN)
    (inside / "study.toml").write_text(
        'imports = ["user_gate.py"]\nseeds = 1\ncontrol = "none"\n[data]\ntrain_items = 20\ntest_items = 20\n'
        '[train]\nepochs = 1\n[[variants]]\nattention = "user_gate"\n'
    )
    answer = python("-m", "foveate", "study", "run", "inside/study.toml", "--out", "out", "--json", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    arms = json.loads(answer.stdout)["arms"]
    assert [arm["label"] for arm in arms] == ["none", "user_gate"]
    again = python("-m", "foveate", "study", "resume", "../out", "--json", cwd=inside)
    assert again.returncode == 0, again.stderr
    assert [arm["score"] for arm in json.loads(again.stdout)["arms"]] == [arm["score"] for arm in arms]


def test_the_task_and_data_of_the_documents_run_by_import_and_by_path(tmp_path):
    counts = EXAMPLES / "count_digits.py"
    assert len(counts.read_text().splitlines()) <= 80
    flags = ["--attention", "none", "--seeds", "1", "--epochs", "1", "--train-items", "60", "--test-items", "40"]
    flags += ["--control", "none", "--json", "--import", counts, "--kind", "digits-to-count", "--task", "counting"]
    answer = python("-m", "foveate", "study", "run", *flags, "--out", "by_import", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    imported = json.loads(answer.stdout)
    assert (imported["metric"]["name"], imported["metric"]["better"]) == ("count error", "lower")
    by_path = run(
        Study(
            variants=(Variant(),),
            seeds=(0,),
            control="none",
            data=DataSpec(kind=f"{counts}:open_digits", train_items=60, test_items=40),
            task=f"{counts}:Counting",
            metric="count error",
            train=Training(epochs=1),
        ),
        tmp_path / "by_path",
    )
    assert [arm["score"]["values"] for arm in imported["arms"]] == [list(arm.score.values) for arm in by_path.arms]


def test_an_error_in_a_task_of_ones_own_names_its_line_and_is_not_tried_again(tmp_path):
    text = (EXAMPLES / "count_digits.py").read_text()
    broken = text.replace(
        "def update(self, model, batch):\n", "def update(self, model, batch):\n        self.nothing.here\n"
    )
    assert broken != text
    (tmp_path / "broken_task.py").write_text(broken)
    line = broken.splitlines().index("        self.nothing.here") + 1
    flags = ["--kind", "broken_task.py:open_digits", "--task", "broken_task.py:Counting", "--attention", "none"]
    flags += [
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--train-items",
        "20",
        "--test-items",
        "20",
        "--control",
        "none",
        "--json",
    ]
    answer = python("-m", "foveate", "study", "run", *flags, "--out", "out", cwd=tmp_path)
    assert answer.returncode == 1, answer.stderr
    (failure,) = json.loads(answer.stdout)["failed"]
    assert failure["error"].startswith(f"broken_task.py: AttributeError in line {line}: ")
    found = python("-m", "foveate", "study", "status", "out", "--json", cwd=tmp_path)
    assert json.loads(found.stdout)["runs"][0]["attempts"] == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task", "segmentaton"], "no task is called 'segmentaton'; did you mean 'segmentation'?"),
        (["--task", "segmentation"], "network foveate:resnet8: wanted a map of logits"),
        (["--kind", "parqet"], "did you mean 'parquet'?"),
        (["--metric", "acuracy"], "the task 'classification' gives no 'acuracy'; did you mean 'accuracy'?"),
        (["--metric", "epochs"], "gives no 'epochs'"),
        (["--metric", "loss", "--better", "higher"], "loss (lower is better)"),
        (["--better", "higher"], "--better goes with --metric"),
        (["--unit", "px"], "--unit goes with --metric"),
        (["--task-option", "label_smothing=0.1"], "did you mean 'label_smoothing'?"),
        (["--data-option", "chanels=3", "--kind", "none", "--image-size", "24"], "did you mean 'channels'?"),
        (["--trainer", "nowhere.py:train"], "nowhere.py: no such file"),
        (["--trainer", "train"], "wanted a function as path.py:name"),
        (["--import", "nowhere.py"], "nowhere.py: no such file"),
        (["--data", ""], "--data: wanted 'embedded' or a folder; got an empty text"),
        (["--train-items", "5"], "wanted train_items of at least 10"),
        (["--train-items", "99999999"], "train_items: wanted at most 4,194,304 images of 32×32"),
        (["--seeds", "1000000000000000000"], "seeds: wanted a number of seeds, 1 to 10,000"),
        (["--kind", "none"], 'kind "none" wanted the size of a sample'),
        (["--network", "\x1b[31mred\x07"], "red"),
        (["--network", "x" * 100_000], "more characters"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_study_that_cannot_be_is_refused_at_planning_in_one_line(flags, message, tmp_path, monkeypatch, capsys):
    from foveate.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["foveate", "study", "run", "--attention", "none", *flags])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code == 2, said
    assert message in said
    assert len(said.splitlines()) == 1
    assert len(said) < 4200
    assert "\x1b" not in said
    assert list(tmp_path.iterdir()) == []
