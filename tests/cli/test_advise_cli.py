"""foveate advise from its flags to its page, on a few embedded digits; its mistakes in one line."""

import json
from pathlib import Path
from unittest import mock

import pytest
from command_line import foveate

from foveate.files import read_json
from foveate.study_file import read_study

SMALL = ["--data", "embedded", "--network", "foveate:resnet8", "--train-items", 60, "--test-items", 40, "--epochs", 1,
         "--batch-size", 20, "--optimizer", "adamw", "--lr", 0.005, "--validation-fraction", 0.3, "--trials", 2,
         "--seeds", 1, "--finalists", 1, "--confirm-seeds", 3, "--attention", "se:reduction=4,eca", "--at", "stage",
         "--latency-budget", "+900%"]  # fmt: skip


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("foveate.study.measured_costs.LATENCY_ROUNDS", 4)


@pytest.mark.slow
def test_a_search_is_studies_in_folders_that_goes_on_and_ends_in_a_sentence(tmp_path, quick):
    with mock.patch("foveate.study.advise.search.mean_gain", lambda gains: 0.01 * len(list(gains))):  # all go on
        found = foveate("advise", *SMALL, "--out", "advice", cwd=tmp_path)
        assert found.returncode == 0, found.stderr
        again = foveate("advise", *SMALL, "--out", "advice", "--json", cwd=tmp_path)
    advice = json.loads(again.stdout)
    assert advice["text"] in " ".join(found.stdout.split())
    assert advice["short"] in ("Insert", "Nothing helped")
    folder = tmp_path / "advice"
    first, last = (read_study(folder / name / "study.toml") for name in ("rung-1", "confirmation"))
    assert (first.data.tested_on, first.data.validation_fraction) == ("validation", 0.3)
    assert (last.data.tested_on, last.data.validation_fraction) == ("test", None)
    assert set(first.seeds).isdisjoint(last.seeds)
    assert last.seeds == (1, 2, 3)
    assert advice["trainings"] == 3 + 6
    runs = [path for path in folder.glob("*/runs/*/result.json") if (path.parent / "run.json").is_file()]
    assert len(runs) == 9, "the second call trained nothing"
    keys = [read_json(path.parent / "run.json")["data"].get("tested_on", "test") for path in runs]
    assert sorted(keys) == ["test"] * 6 + ["validation"] * 3
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "../confirmation/report/index.html" in page
    assert (folder / "confirmation" / "report" / "index.html").is_file()
    assert {"table.csv", "summary.json", "score_latency.png"} <= {path.name for path in (folder / "report").iterdir()}
    other = foveate("advise", *SMALL, "--out", "advice", "--confirm-seeds", 4, cwd=tmp_path)
    assert other.returncode == 2
    assert "holds another search (plan:" in other.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--latency-budget", "fast"], "--latency-budget: wanted"),
        (["--latency-budget", "-5%"], "wanted 0 % or more over plain"),
        (["--trials", "5", "--budget", "50"], "--trials and --budget: wanted one of them; got both"),
        (["--budget", "5"], "--budget: wanted 22 trainings or more"),
        (["--confirm-seeds", "2"], "--confirm-seeds: wanted 3 or more"),
        (["--init", "zero"], "--init: wanted paper, identity or both; got 'zero'"),
        (["--attention", "sse_"], "sse"),
        (["--attention", "se:reductoin=4"], "reduction"),
        (["--validation-fraction", "1.5"], "validation_fraction"),
        (["--train-items", "10", "--test-items", "10"], "to hold out for validation"),
        (["--network", "foveate:resnet9"], "resnet8"),
        (["--at", "block,stag"], "--at: at='stag' matches none of the "),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_made(tmp_path, flags, message):
    found = foveate("advise", "--data", "embedded", *flags, "--out", "advice", cwd=tmp_path)
    assert found.returncode == 2, found.stderr
    assert found.stderr.startswith("foveate: ")
    assert len(found.stderr.splitlines()) == 1
    assert message in found.stderr
    assert not Path(tmp_path / "advice").exists()


@pytest.mark.parametrize(
    ("text", "name"), [("[train]\nlr = [0.1, 0.01]\n", "a list of values"), ("fast = true\n", "fast")]
)
def test_what_the_search_decides_is_refused_in_a_study(tmp_path, text, name):
    (tmp_path / "study.toml").write_text(text)
    found = foveate("advise", "study.toml", cwd=tmp_path)
    assert found.returncode == 2
    assert f"advise: wanted a study without {name}: candidates" in found.stderr
