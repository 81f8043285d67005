"""Latencies of a study's arms on other machines: files from elsewhere, and calibrations."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_scores import GAIN, NOISE, judged, plain, plus
from typer.testing import CliRunner

from foveate.cli import app
from foveate.spec import Study
from foveate.study import run_study
from foveate.study.machines import with_machines
from foveate.summary import Cost, Summary, Times

ROOT = Path(__file__).parents[2]
TIMED = {"none": 2.0, "se": 3.0, "cbam": 5.0}


def measurements(folder: Path, **changed: object) -> Path:
    facts = {"kind": "foveate measurements", "machine": "board", "runtime": "onnxruntime 1.31", "threads": 1}
    rows = {name: {"median": ms, "low": 0.9 * ms, "high": 1.1 * ms} for name, ms in TIMED.items()}
    path = folder / "times.json"
    path.write_text(json.dumps(facts | {"batch_size": 1, "networks": rows} | changed), encoding="utf-8")
    return path


def summary() -> Summary:
    costs = {name: Cost(latency_ms=Times(ms, ms, ms)) for name, ms in (("none", 1.0), ("se", 2.0), ("cbam", 1.5))}
    return judged({"none": plain(), "se": plus(GAIN), "cbam": plus(NOISE)}, costs=costs)


def test_measurements_are_read_with_their_ratios_and_order(tmp_path: Path) -> None:
    (found,) = with_machines(summary(), tmp_path, [measurements(tmp_path)]).machines
    assert found.name == "board, onnxruntime 1.31, 1 thread, batch 1"
    assert found.how == "measured"
    assert found.latency_ms["cbam"] == Times(5.0, 4.5, 5.5)
    assert found.ratio == {"none": 1.0, "se": 1.5, "cbam": 2.5}
    assert found.order == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "times"}, "wanted a file of the kind 'foveate measurements' or 'foveate calibration'; got 'times'"),
        ({"networks": {"sse": {"median": 1, "low": 1, "high": 1}}}, "'sse' is no arm of this study; did you mean 'se'"),
        (
            {"networks": {"se": {"median": 0, "low": 1, "high": 1}}},
            "networks.se.median: input should be greater than 0",
        ),
        ({"thread": 1}, "not whole measurements: thread: extra inputs"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_what_is_wrong(tmp_path: Path, changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_machines(summary(), tmp_path, [measurements(tmp_path, **changed)])


def test_what_is_no_json_is_said(tmp_path: Path) -> None:
    (tmp_path / "times.json").write_text("no")
    with pytest.raises(ValueError, match=r"times.json: wanted measurements or a calibration as JSON"):
        with_machines(summary(), tmp_path, [tmp_path / "times.json"])


@pytest.mark.slow
def test_exported_networks_are_measured_by_the_runner_and_stand_beside_a_calibration(tmp_path: Path) -> None:
    data = {"train_items": 40, "test_items": 20}
    study = Study(variants=("none", "se"), seeds=1, control="none", data=data, train={"epochs": 1, "batch_size": 8})
    run_study(study, tmp_path / "study", jobs=1)
    examples = ROOT / "docs" / "examples"
    brought = []
    for form in ("onnx", "pt2"):
        out, back = tmp_path / form, tmp_path / f"{form}.json"
        subprocess.run([sys.executable, examples / "export_arms.py", tmp_path / "study", out, form], check=True)
        subprocess.run([sys.executable, examples / "measure_elsewhere.py", out, "this machine", back], check=True)
        brought += ["--machine", str(back)]
    brought += ["--machine", str(ROOT / "results" / "calibration" / "epyc-1-thread.json")]
    done = CliRunner().invoke(app, ["study", "report", str(tmp_path / "study"), *brought, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["machines"]
    assert [one["how"] for one in found] == ["measured", "measured", "predicted"]
    assert [name.split(",")[1].split()[0] for name in (one["name"] for one in found)][:2] == ["onnxruntime", "torch"]
    assert all(set(one["latency_ms"]) == {"none", "se"} and one["ratio"]["none"] == 1 for one in found)
    page = (tmp_path / "study" / "report" / "index.html").read_text(encoding="utf-8")
    assert '<h2 id="machines">' in page
