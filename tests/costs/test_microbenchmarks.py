"""The guideline study: the networks it compares have the paper's shapes at equal multiply-adds, its verdicts follow
their intervals, and what it writes can be read."""

import csv
import json
from dataclasses import asdict

import pytest
import torch
from torch import nn

from foveate.costs import Latency, experiment, experiments, macs
from foveate.costs.microbenchmarks import SIDE, Timed, told, variants, verdict
from foveate.report import write_experiments

CASES = [(guideline, width) for guideline, widths in experiments().items() for width in widths]


@pytest.mark.parametrize(("guideline", "width"), CASES)
def test_variants_of_an_experiment_have_equal_multiply_adds(guideline, width):
    first, *others = variants(guideline, width)
    for one in (first, *others):
        with torch.device("meta"):
            network, x = one.build(), torch.zeros(1, one.channels, SIDE, SIDE)
        assert macs(network, x) == one.macs, "the count by hand is what runs"
        assert network(x).shape == x.shape
        assert abs(one.macs / first.macs - 1) < 0.04
        assert len(network) == 10
    assert any(one.decides for one in others)
    assert not first.decides


def test_the_widths_are_those_of_the_paper():
    assert [one.widths for one in variants("G1", 128)] == ["128, 128", "91, 180", "52, 315", "37, 443", "32, 512"]
    assert [one.widths for one in variants("G2", 128)] == ["128", "182", "256", "360", "512"]
    assert [one.widths for one in variants("G3", 128)] == ["128", "91", "64", "91", "64"]
    kinds = [{type(m) for m in one.build().modules()} for one in variants("G4", 64)]
    assert [nn.ReLU in found for found in kinds] == [False, True, False, True]


RATIOS = [
    ((1.10, 1.20), (0.98, 1.02), "slower"),
    ((1.01, 1.20), (0.95, 1.05), "same"),  # not clear of what the same network gave again
    ((0.90, 1.20), (0.99, 1.01), "same"),
    ((0.80, 0.90), (0.98, 1.02), "faster"),
    ((0.80, 0.97), (0.96, 1.02), "same"),
]


@pytest.mark.parametrize(("found", "again", "word"), RATIOS)
def test_a_variant_is_told_apart_only_outside_the_noise(found, again, word):
    assert told(Latency(sum(found) / 2, *found), Latency(sum(again) / 2, *again)) == word


VERDICTS = [
    (("slower", "slower"), "holds here"),
    (("slower", "same"), "holds in part here"),
    (("same", "same"), "not distinguishable here"),
    (("faster", "same"), "does not hold here"),
]


@pytest.mark.parametrize(("words", "expected"), VERDICTS)
def test_the_verdict_follows_the_variants_that_decide(words, expected):
    ratio = Latency(1.0, 1.0, 1.0)
    assert verdict([Timed("x", "1", 1, ratio, ratio, word, True) for word in words])[0] == expected


@pytest.mark.parametrize(
    ("guideline", "width", "message"), [("G5", 64, "one of G1, G2, G3, G4"), ("G1", 30, "width"), ("G1", 40, "width")]
)
def test_an_experiment_that_there_is_not_is_told(guideline, width, message):
    with pytest.raises((LookupError, ValueError), match=message):
        experiment(guideline, width)


def test_a_study_writes_its_table_pictures_and_numbers(tmp_path):
    threads = torch.get_num_threads()
    one = experiment("G4", 32, threads=1, repeats=5, budget_s=0.0)
    assert torch.get_num_threads() == threads
    assert [row.told == "reference" for row in one.rows] == [True, False, False, False, False]
    assert one.rows[0].ratio == Latency(1.0, 1.0, 1.0)
    about = {"machine": "a machine", "threads": 1, "batch_size": 1, "versions": {"torch": "2"}}
    study = about | {"experiments": [asdict(one)]}
    write_experiments(study, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "experiments.json").read_text()) == json.loads(json.dumps(study))
    rows = list(csv.DictReader((tmp_path / "out" / "experiments.csv").read_text().splitlines()))
    assert [row["variant"] for row in rows] == [row.name for row in one.rows]
    assert float(rows[2]["ms_median"]) > 0
    assert (tmp_path / "out" / "experiments.png").read_bytes()[:4] == b"\x89PNG"
    assert "ReLU and shortcut" in (tmp_path / "out" / "experiments.svg").read_text()
