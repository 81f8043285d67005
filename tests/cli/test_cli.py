"""The command line as a person meets it: every command's help, its answers, and its mistakes in one line."""

import json
import os
import subprocess
import sys

import pytest
from command_line import foveate


def foveate_process(*arguments, cwd=None):
    command = [sys.executable, "-m", "foveate", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=240, check=False)


COMMANDS = [
    ["demo"],
    ["list"],
    ["show"],
    ["draw"],
    ["sites"],
    ["cost"],
    ["evaluate"],
    ["compare"],
    ["convert"],
    ["web"],
    *(["study", name] for name in ("run", "status", "resume", "report")),
    ["data", "make"],
    ["data", "check"],
    ["guidelines", "study"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command):
    answer = foveate_process(*command, "--help")
    assert answer.returncode == 0
    assert f"Example: foveate {' '.join(command)}" in " ".join(answer.stdout.split())


def test_list_show_and_sites():
    listed = json.loads(foveate("list", "--json").stdout)
    assert {"se", "eca", "cbam"} <= set(listed["attention"])
    mixed = json.loads(foveate("list", "--domain", "mixed", "--json").stdout)
    assert {"cbam", "bam", "scse"} <= set(mixed["attention"])
    assert not {"se", "sse"} & set(mixed["attention"])
    assert mixed["networks"] == []
    shown = foveate("show", "cbam")
    assert "arXiv:1807.06521" in shown.stdout
    assert "[avg; max]; released: [max; mean]" in shown.stdout
    sites = json.loads(foveate("sites", "foveate:resnet8", "--at", "block", "--image-size", 32, "--json").stdout)
    assert [site["channels"] for site in sites] == [16, 32, 64]


def test_a_network_is_shown_and_drawn(tmp_path):
    shown = foveate("show", "se_shufflenet_v2").stdout
    assert "attention   se in 16 places" in shown
    assert "ShuffleUnitV2 ×7, with se" in shown
    values = json.loads(foveate("show", "timm:resnet18", "--json").stdout)
    assert (values["attention"], values["classes"]) == ({}, 1000)
    again = foveate("draw", "resnet8", "--attention", "eca", "--out", tmp_path / "x.svg")
    assert again.returncode == 0
    assert "attention: eca in 3 places" in (tmp_path / "x.svg").read_text(encoding="utf-8")
    assert foveate("draw", "cbam", "--out", tmp_path / "x.png").returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "shufflenet"], "no attention and no network is called 'shufflenet'; did you mean 'shufflenet_v2'"),
        (["draw", "resnet8", "--out", "x.pdf"], "ends in .png or .svg"),
        (["draw", "resnet8", "--out", "x.svg", "--at", "stage"], "--at goes with --attention"),
        (["draw", "se", "--out", "x.svg", "--image-size", "64"], "se is a mechanism; it is drawn alone"),
    ],
)
def test_what_cannot_be_shown_or_drawn_is_one_line(words, message, tmp_path):
    answer = foveate(*words, cwd=tmp_path)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_cost_shows_deltas_against_the_plain_network():
    answer = foveate("cost", "foveate:resnet8", "--attention", "se,cbam:kernel_size=3", "--image-size", 32, "--json")
    costs = json.loads(answer.stdout)
    assert list(costs) == ["none", "se", "cbam:kernel_size=3"]
    assert costs["none"]["parameters"] < costs["se"]["parameters"] < costs["cbam:kernel_size=3"]["parameters"]
    for found in costs.values():
        assert found["latency_ms"]["low"] <= found["latency_ms"]["median"] <= found["latency_ms"]["high"]


def test_a_study_from_flags_to_its_report(tmp_path):
    flags = [
        "--attention",
        "none,se",
        "--seeds",
        "2",
        "--epochs",
        "1",
        "--train-images",
        "64",
        "--test-images",
        "40",
        "--batch-size",
        "16",
    ]
    first = foveate_process("study", "run", *flags, "--out", "out", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "report:" in first.stdout
    folder = tmp_path / "out"
    assert {"study.toml", "results.db", "runs", "report"} <= {path.name for path in folder.iterdir()}
    made = {path.name for path in (folder / "report").iterdir()}
    assert {"index.html", "table.csv", "summary.json", "score_latency.png", "curves.png"} <= made
    assert {"confusion.svg", "cost_roofline.svg"} <= made
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert all(f'<h2 id="{place}"' in page for place in ("gallery", "attention", "confusion", "classes"))
    cases = json.loads((folder / "gallery" / "gallery.json").read_text())["se"]["cases"]
    assert {case["sort"] for case in cases} >= {"right", "wrong"}
    assert all(case["plain"] < case["variant"] for case in cases if case["sort"] == "gained")
    assert all((folder / "gallery" / case["picture"]).is_file() for case in cases)
    drawn = {path: path.stat().st_mtime_ns for path in (folder / "gallery").iterdir()}
    states = json.loads(foveate("study", "status", folder, "--json").stdout)["states"]
    assert states == {"done": 6, "running": 0, "todo": 0, "failed": 0}
    again = foveate("study", "run", *flags, "--out", "out", "--json", cwd=tmp_path)
    assert again.returncode == 0
    labels = [arm["label"] for arm in json.loads(again.stdout)["arms"]]
    assert labels[:2] == ["none", "se"]
    assert labels[2] == "conv control of se"
    assert [arm["domain"] for arm in json.loads(again.stdout)["arms"]] == ["", "channel", ""]
    assert json.loads(foveate("study", "report", folder, "--json").stdout)["arms"] == json.loads(again.stdout)["arms"]
    assert foveate("study", "report", folder, "--lang", "zh").returncode == 0
    assert 'lang="zh-CN"' in (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert {path: path.stat().st_mtime_ns for path in (folder / "gallery").iterdir()} == drawn


MISTAKES = [
    (["show", "cbma"], "did you mean 'cbam'"),
    (["list", "zzz*"], "nothing is called"),
    (["list", "--domain", "mixd"], "got 'mixd'; did you mean 'mixed'"),
    (["list", "se", "--domain", "mixed"], "no mechanism that works on mixed is called 'se'"),
    (["sites", "timm:resnet5O"], "did you mean 'resnet50"),
    (["sites", "foveate:resnet8", "--at", "layer7.*"], "layer7"),
    (["study", "run", "--attention", "none,cbma"], "did you mean 'cbam'"),
    (["study", "run", "--attention", "cbam:kernal_size=3"], "did you mean 'kernel_size'"),
    (["study", "run", "--network", "foveate:resnet9"], "did you mean"),
    (["study", "run", "--data", "no/such/folder"], "no/such/folder"),
    (["study", "run", "--seeds", "many"], "--seeds: wanted"),
    (["study", "run", "--epochs", "0"], "train.epochs"),
    (["study", "run", "none.toml"], "none.toml"),
    (["study", "resume", "nowhere"], "wanted the folder of a study"),
    (["study", "status", "nowhere"], "wanted the folder of a study"),
    (["study", "report", "nowhere"], "wanted the folder of a study"),
    (["data", "check", "nowhere"], "nowhere"),
    (["guidelines", "study", "--guideline", "G1,G7"], "wanted some of G1, G2, G3, G4; got 'G7'"),
    (["guidelines", "study", "--device", "gpu"], "wanted one of this machine's"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_one_line_and_status_2(arguments, message, tmp_path):
    answer = foveate(*arguments, cwd=tmp_path)
    assert answer.returncode == 2, answer.stderr
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".db", ".safetensors"}], "nothing half written"


def test_a_wrong_key_in_a_study_file_is_told_with_its_line(tmp_path):
    (tmp_path / "s.toml").write_text("[train]\nepochz = 1\n")
    answer = foveate("study", "run", "s.toml", cwd=tmp_path)
    assert answer.returncode == 2
    assert "s.toml:2: unknown key 'train.epochz'; did you mean 'epochs'?" in answer.stderr
