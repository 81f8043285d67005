"""foveate cost as a person meets it: tables, files, and mistakes in one line."""

import csv
import json

import pytest
from test_cli import foveate

QUICK = ["--image-size", 32, "--seconds", 0.05]


def test_tables_and_files_of_every_level(tmp_path):
    answer = foveate(
        "cost", "foveate:resnet8", "--attention", "none,se,eca", *QUICK, "--per-stage", "--per-module",
        "--per-operator", "--throughput", 2, "--csv", "costs.csv", "--picture", "costs.svg", cwd=tmp_path,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    told = answer.stdout
    assert "foveate:resnet8, batch 1 of 32×32, torch on cpu, 1 thread, fp32" in told
    assert "A multiply-add is two FLOPs" in told
    for heading in ("fastest to slowest, by median: ", "none, stage by stage", "none, module by module",
                    "se, each inserted module", "eca, operator by operator", "images a second"):  # fmt: skip
        assert heading in told, heading
    rows = list(csv.DictReader((tmp_path / "costs.csv").read_text().splitlines()))
    assert {row["level"] for row in rows} == {"network", "stage", "module", "operator"}
    whole = {row["network"]: row for row in rows if row["level"] == "network"}
    for name, row in whole.items():
        stages = [int(r["macs"]) for r in rows if r["level"] == "stage" and r["network"] == name]
        operators = [int(r["macs"]) for r in rows if r["level"] == "operator" and r["network"] == name]
        assert sum(stages) == sum(operators) == int(row["macs"]) > 0
        assert float(row["latency_ms_low"]) <= float(row["latency_ms_median"]) <= float(row["latency_ms_high"])
        assert float(row["peak_mib"]) > 0
    added = [r for r in rows if r["level"] == "module" and r["name"].endswith(".foveate") and r["network"] == "se"]
    assert sum(int(r["macs"]) for r in added) == int(whole["se"]["macs"]) - int(whole["none"]["macs"])
    assert sum(int(r["launches"]) for r in added) == int(whole["se"]["launches"]) - int(whole["none"]["launches"])
    assert all(float(r["latency_ms_median"]) > 0 for r in added)
    picture = (tmp_path / "costs.svg").read_text()
    assert "multiply-adds ×1.000" in picture
    assert picture.count("<circle") == 2


def test_json_has_counts_times_and_the_ranking():
    answer = foveate(
        "cost", "foveate:resnet8", "--attention", "se", *QUICK, "--training", "-b", 4, "--dtype", "bf16",
        "--channels-last", "--json",
    )  # fmt: skip
    found = json.loads(answer.stdout)
    assert list(found) == ["none", "se"]
    assert found["none"]["batch_size"] == 4
    assert found["none"]["macs"] == 4 * 12_239_488
    assert found["se"]["latency_ratio"]["low"] <= found["se"]["latency_ratio"]["median"]
    assert found["se"]["train_step_ms"]["median"] > 0
    assert found["se"]["train_peak_mib"] > 0
    assert found["se"]["about"]["dtype"] == "bf16"
    ranking = found["se"]["ranking"]
    assert sorted(ranking["order"]) == ["none", "se"]
    assert bool(ranking["alike"]) == (found["se"]["told"] == "not distinguishable")


MISTAKES = [
    (["foveate:resnet8", "--device", "cuda:9"], "device: wanted one of this machine's"),
    (["foveate:resnet8", "--dtype", "int8"], "dtype: wanted one of fp32, bf16, fp16; got 'int8'"),
    (["foveate:resnet8", "--csv", "nowhere/costs.csv"], "--csv: wanted a file in a folder that is there"),
    (["foveate:resnet8", "--picture", "costs.gif"], "wanted the name of a picture that ends in .png or .svg"),
    (["foveate:resnet8", "--target", "tflite"], "target: wanted one of torch, onnxruntime"),
    (["net.py:net", "--at", "conv"],
     "refuses a batch of shape [1, 3, 32, 32]: conv (Conv2d with a weight of [4, 5, 1, 1]) was given [1, 3, 32, 32]"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_about_costs_is_one_line_and_status_2(arguments, message, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef net(num_classes):\n"
        "    net = nn.Sequential()\n    net.add_module('conv', nn.Conv2d(5, 4, 1))\n    return net\n"
    )
    answer = foveate("cost", *arguments, *QUICK, cwd=tmp_path)
    assert answer.returncode == 2, answer.stderr
    assert message in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    assert not list(tmp_path.glob("costs.*"))
