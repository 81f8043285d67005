"""foveate calibrate, latency and roofline: their answers, and mistakes in one line."""

import json

import pytest
from command_line import foveate

from foveate.costs import Calibration

CALIBRATION = Calibration(
    device="cpu",
    name="a processor",
    threads=1,
    dtype="float32",
    batch_size=1,
    torch="2",
    prices={"elementwise": (0.01, 1.0, 50.0, 10.0), "convolution": (0.05, 20.0, 50.0, 10.0)},
    scale=1.1,
    launch_ms=0.002,
    error=0.08,
    within=1.25,
    checked=(),
)


@pytest.mark.parametrize("command", ["calibrate", "latency", "roofline"])
def test_help_has_an_example(command):
    assert f"Example: foveate {command}" in " ".join(foveate(command, "--help").stdout.split())


def test_networks_and_variants_are_ordered_by_predicted_latency(tmp_path):
    CALIBRATION.save(tmp_path / "cpu.json")
    asked = ["latency", "foveate:resnet20", "foveate:resnet8", "--attention", "none,cbam:kernel_size=3"]
    asked += ["--image-size", 32, "--num-classes", 10, "--calibration", "cpu.json"]
    answer = foveate(*asked, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    names = [line.split("  ")[0] for line in answer.stdout.splitlines() if line.startswith("foveate:")]
    assert names[0] == "foveate:resnet8"
    assert names[-1] == "foveate:resnet20 + cbam:kernel_size=3"
    assert "not covered: " in answer.stdout
    assert "aten.native_batch_norm" in answer.stdout
    limit = json.loads(foveate(*asked, "--json", cwd=tmp_path).stdout)[1]["ms"]
    kept = json.loads(foveate(*asked, "--limit-ms", limit, "--json", cwd=tmp_path).stdout)
    assert [one["name"] for one in kept] == names[:2]


def test_a_roofline_is_drawn_with_the_inserted_operators(tmp_path):
    asked = [
        "roofline",
        "foveate:resnet8",
        "--attention",
        "se",
        "--image-size",
        32,
        "--num-classes",
        10,
        "--seconds",
        0,
    ]
    answer = foveate(*asked, "--picture", "roof.svg", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "the inserted ones" in answer.stdout
    assert max(map(len, answer.stdout.splitlines())) <= 100
    assert "of the inserted modules" in (tmp_path / "roof.svg").read_text()


MISTAKES = [
    (["latency", "foveate:resnet8"], "no such calibration; foveate calibrate --out calibration.json measures one"),
    (["latency", "foveate:resnet8", "--calibration", "bad.json"], "bad.json: wanted a calibration"),
    (["latency", "foveate:resnet9", "--calibration", "cpu.json"], "did you mean"),
    (["latency", "foveate:resnet8", "--calibration", "cpu.json", "--at", "stage"], "--at goes with --attention"),
    (["calibrate", "--device", "cuda:77"], "wanted one of this machine's"),
    (["calibrate", "--dtype", "int8"], "--dtype: wanted one of float32"),
    (["calibrate", "--out", "no/such/cpu.json"], "--out: wanted a file"),
    (["roofline", "foveate:resnet8", "--attention", "se,cbam"], "wanted one mechanism"),
    (["roofline", "foveate:resnet8", "--picture", "roof.pdf"], "ends in .png or .svg"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_mistakes_about_predictions_are_one_line_and_status_2(arguments, message, tmp_path):
    CALIBRATION.save(tmp_path / "cpu.json")
    (tmp_path / "bad.json").write_text("{}")
    answer = foveate(*arguments, cwd=tmp_path)
    assert answer.returncode == 2, answer.stderr
    assert message in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"cpu.json", "bad.json"}, "nothing half written"
