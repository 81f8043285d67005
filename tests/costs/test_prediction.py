"""Prediction from counts: planted prices are found again, files keep them, networks are ordered, mistakes are told."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import foveate
from foveate.costs import Calibration, calibrate, count, fastest_first, predict
from foveate.costs.calibration import TERMS, Observed, _left_out, fit, kind_of, operators, terms
from foveate.networks import build_network

PRICES = {
    "convolution": (0.05, 20.0, 60.0, 30.0),
    "1×1 convolution": (0.02, 25.0, 40.0, 10.0),
    "convolution of few channels": (0.01, 30.0, 50.0, 0.0),
    "depthwise convolution": (0.03, 90.0, 20.0, 5.0),
    "group convolution": (0.03, 50.0, 20.0, 5.0),
    "linear": (0.01, 22.0, 80.0, 0.0),
    "elementwise": (0.004, 0.0, 30.0, 20.0),
    "curved elementwise": (0.004, 400.0, 30.0, 20.0),
    "batch norm": (0.006, 0.0, 40.0, 10.0),
    "reduction": (0.005, 100.0, 10.0, 0.0),
    "pooling": (0.01, 900.0, 0.0, 0.0),
    "copy": (0.004, 0.0, 30.0, 30.0),
}
ABOUT = {"device": "cpu", "name": "a processor", "threads": 1, "dtype": "float32", "batch_size": 1, "torch": "2"}
CALIBRATION = Calibration(**ABOUT, prices=PRICES, scale=1.1, launch_ms=0.002, error=0.08, within=1.25, checked=())


def planted(name, size=64):
    rows = count(build_network(name, num_classes=10), torch.zeros(1, 3, size, size), kept=False).rows
    times = tuple(operators([row], PRICES) for row in rows)
    return Observed(name, size, rows, times, 1.1 * sum(times) + 0.002 * len(rows))


NAMES = ["torchvision:resnet18", "torchvision:mobilenet_v2", "torchvision:squeezenet1_1", "timm:mobilenetv3_small_100"]


def test_prices_that_were_planted_are_found_again():
    observed = [planted(name) for name in NAMES]
    prices, scale, launch_ms = fit(observed)
    for one in observed:
        found = scale * operators(one.rows, prices) + launch_ms * len(one.rows)
        assert found == pytest.approx(one.latency_ms, rel=1e-3)
    assert set(prices) <= set(PRICES)
    assert all(price >= 0 for one in prices.values() for price in one)


def test_a_network_left_out_is_predicted_by_the_others_alone():
    observed = [planted(name) for name in NAMES]
    observed[0] = replace(
        observed[0], latency_ms=10 * observed[0].latency_ms, times=tuple(10 * t for t in observed[0].times)
    )
    first, *_ = _left_out(observed)
    assert first.network == NAMES[0]
    assert first.predicted_ms < 0.3 * first.measured_ms, "its own times did not help"


@pytest.mark.parametrize(
    ("layer", "shape", "kind"),
    [
        (nn.Conv2d(16, 8, 3), (1, 16, 9, 9), "convolution"),
        (nn.Conv2d(16, 8, 1), (1, 16, 9, 9), "1×1 convolution"),
        (nn.Conv2d(16, 16, 3, groups=16), (1, 16, 9, 9), "depthwise convolution"),
        (nn.Conv2d(16, 16, 3, groups=4), (1, 16, 9, 9), "group convolution"),
        (nn.Conv2d(3, 8, 3), (1, 3, 9, 9), "convolution of few channels"),
        (nn.Linear(8, 4), (2, 8), "linear"),
        (nn.GELU(), (2, 8), "curved elementwise"),
        (nn.ReLU(), (2, 8), "elementwise"),
        (nn.BatchNorm2d(4), (1, 4, 3, 3), "batch norm"),
        (nn.LayerNorm(8), (2, 8), "normalisation"),
        (nn.MaxPool2d(2), (1, 4, 8, 8), "pooling"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_operators_are_priced_by_their_kind(layer, shape, kind):
    (row,) = count(layer, torch.randn(shape), kept=False).rows
    assert kind_of(row) == kind
    assert len(terms(row)) == len(TERMS)


def test_a_prediction_by_hand():
    conv = nn.Conv2d(16, 8, 3, bias=False)
    moved = 4 * (16 * 100 + 8 * 16 * 9 + 8 * 64)
    ms = 0.05 + 20 * 64 * 8 * 16 * 9 / 1e9 + 60 * moved / 1e9
    found = predict(conv, torch.zeros(1, 16, 10, 10), CALIBRATION)
    assert found.ms == pytest.approx(1.1 * ms + 0.002)
    assert (found.low, found.high) == (pytest.approx(found.ms / 1.25), pytest.approx(found.ms * 1.25))
    assert (found.error, found.uncovered) == (0.08, ())
    far = predict(nn.ReLU(), torch.zeros(1, 1, 1000, 1000), CALIBRATION)
    assert far.ms == pytest.approx(1.1 * (0.004 + 30 * 8e6 / 1e9 + 20 * (8e6 - 2**20) / 1e9) + 0.002)
    softmax = predict(nn.Softmax(-1), torch.zeros(2, 8), CALIBRATION)
    assert softmax.uncovered == ("aten._softmax",), "told, not counted as nothing"
    assert softmax.ms > 0


def test_candidates_come_fastest_first_and_a_network_without_memory_is_enough(tmp_path):
    def candidates():
        for name in ("resnet20", "resnet8"):
            with torch.device("meta"):
                yield name, foveate.create_network(name, num_classes=3), x

    CALIBRATION.save(tmp_path / "cpu.json")
    x = torch.zeros(1, 3, 32, 32, device="meta")
    ordered = fastest_first(candidates(), tmp_path / "cpu.json")
    assert [name for name, _ in ordered] == ["resnet8", "resnet20"]
    assert ordered[0][1].ms < ordered[1][1].ms
    limit = ordered[0][1].ms
    assert [name for name, _ in fastest_first(candidates(), CALIBRATION, limit_ms=limit)] == ["resnet8"]


def test_a_calibration_is_the_same_after_it_was_saved(tmp_path):
    path = tmp_path / "cpu.json"
    CALIBRATION.save(path)
    assert Calibration.load(path) == CALIBRATION


BAD = {
    "no JSON": (lambda content: "nothing", "got no JSON"),
    "another file": (lambda content: json.dumps({"a": 1}), "got another JSON file"),
    "a list": (lambda content: "[1]", "got another JSON file"),
    "another schema": (lambda content: json.dumps(content | {"schema": 9}), "schema 1; got 9"),
    "a key is missing": (lambda content: json.dumps({k: v for k, v in content.items() if k != "scale"}), "scale"),
    "words for numbers": (lambda content: json.dumps(content | {"prices": {"copy": ["a", 1, 2, 3]}}), "prices.copy.0"),
    "no elementwise prices": (lambda content: json.dumps(content | {"prices": {}}), "elementwise"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_calibration_is_told_in_one_line(case, tmp_path):
    path = tmp_path / "cpu.json"
    CALIBRATION.save(path)
    spoil, message = BAD[case]
    path.write_text(spoil(json.loads(path.read_text())))
    with pytest.raises(ValueError, match="cpu.json: ") as caught:
        Calibration.load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_calibration_is_not_for_is_refused():
    with pytest.raises(ValueError, match="for float32; got a batch of bfloat16"):
        predict(nn.ReLU(), torch.zeros(1, 3, dtype=torch.bfloat16), CALIBRATION)
    with pytest.raises(ValueError, match="three at least"):
        calibrate(networks={"foveate:resnet8": (32,)})


def test_a_small_calibration_of_this_machine():
    told = []
    networks = dict.fromkeys(["foveate:resnet8", "torchvision:shufflenet_v2_x0_5", "torchvision:squeezenet1_1"], (64,))
    found = calibrate(networks=networks, threads=1, budget_s=0.0, progress=told.append)
    assert told == [f"{name} at 64×64{again}" for again in ("", ", again") for name in networks]
    assert [one.network for one in found.checked] == list(networks)
    assert all(one.measured_ms > 0 and one.predicted_ms > 0 for one in found.checked)
    assert found.within >= 1
    assert predict(foveate.create_network("resnet8"), torch.zeros(1, 3, 64, 64), found).ms > 0
