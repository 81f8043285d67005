"""Hard gates: which are off, and what their gradients are."""

import pytest
import torch
from rich.console import Console

import foveate
from foveate.attention._hard import Switch
from foveate.costs import costs
from foveate.report import costs_table

LOGITS = torch.tensor([[2.0, -1.0, 0.5, -3.0], [-0.1, 0.2, -0.3, -0.4]], dtype=torch.float64)


def test_the_largest_stay_on_as_soft_gates_with_true_gradients():
    for keep in (2, 0.5):
        switch = Switch("se", "topk", keep, None)
        on = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0]])
        torch.testing.assert_close(switch.gate(LOGITS), torch.sigmoid(LOGITS) * on)
        assert torch.autograd.gradcheck(switch.gate, LOGITS.clone().requires_grad_())
    assert (Switch("se", "topk", 0.01, None).gate(LOGITS) > 0).sum() == 2, "one of each sample"
    assert (Switch("se", "topk", 9, None).gate(LOGITS) > 0).all(), "a map that was made narrower keeps what it has"


@pytest.mark.parametrize(("hard", "temperature"), [("straight_through", None), ("gumbel", 0.5)])
def test_binary_gates_have_the_gradients_of_soft_ones(hard, temperature):
    switch = Switch("se", hard, None, temperature).eval()
    logits = LOGITS.clone().requires_grad_()
    gate = switch.gate(logits)
    assert torch.equal(gate, (LOGITS > 0).double())
    (slope,) = torch.autograd.grad(gate.sum(), logits)
    soft = torch.sigmoid(LOGITS / (temperature or 1))
    torch.testing.assert_close(slope, soft * (1 - soft) / (temperature or 1))


def test_gumbel_gates_are_on_as_often_as_their_soft_gate_says():
    switch = Switch("se", "gumbel", None, 0.1).train()
    many = switch.gate(LOGITS[0].expand(20000, 4))
    assert set(many.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(many.mean(0), torch.sigmoid(LOGITS[0]), rtol=0, atol=0.02)


def test_a_gate_of_unknown_logits_is_unknown():
    for hard in ("topk", "straight_through", "gumbel"):
        gate = Switch("se", hard, None, None).gate(torch.tensor([[float("nan"), 1.0], [1.0, 2.0]]))
        assert gate[0, 0].isnan()
        assert gate[1].isfinite().all()


@pytest.mark.parametrize("name", ["se", "cse", "eca", "ese", "cbam", "scse"])
def test_half_of_the_channels_are_off(name):
    module = foveate.create_attention(name, 16, hard="topk", **({"reduction": 4} if name in ("se", "cbam") else {}))
    x = torch.randn(2, 16, 6, 5)
    with foveate.capture(module) as seen:
        y = module(x)
    off = seen.maps[""]["channel"] == 0
    assert off.sum(1).tolist() == [8, 8]
    if name != "scse":  # whose other gate adds a map of its own
        assert (y[off] == 0).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sa", {"groups": 2}),
        ("sge", {"groups": 4}),
        ("gc", {"fusion": "mul"}),
        ("temporal", {"spatial_dims": 1}),
        ("attention_gate", {"variant": "paper", "sub_sample": 1}),
    ],
)
def test_half_of_the_map_is_off(name, options):
    gate = foveate.create_attention(name, 16, hard="topk", **options)
    for parameter in gate.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 16, 6) if name == "temporal" else torch.randn(2, 16, 6, 4)
    y = gate(x, torch.randn(2, 16, 3, 2)) if name == "attention_gate" else gate(x)
    assert (y == 0).flatten(1).float().mean(1).tolist() == [0.5, 0.5]


def test_half_of_the_rows_and_columns_of_channels_are_off():
    with foveate.capture(gate := foveate.create_attention("ca", 16, hard="topk")) as seen:
        y = gate(torch.randn(2, 16, 6, 4))
    rows, columns = seen.maps[""]["height"] == 0, seen.maps[""]["width"] == 0
    assert rows.flatten(1).sum(1).tolist() == [48, 48]
    assert columns.flatten(1).sum(1).tolist() == [32, 32]
    assert torch.equal(y == 0, rows.unsqueeze(3) | columns.unsqueeze(2))


def test_costs_say_what_a_backend_could_skip_and_that_dense_ones_do_not():
    def network(**options):
        gate = foveate.create_attention("se", 16, reduction=4, **options)
        return torch.nn.Sequential(torch.nn.Conv2d(3, 16, 1), gate, torch.nn.Conv2d(16, 8, 1))

    x = torch.randn(2, 3, 6, 5)
    found = costs({"none": network(), "hard": network(hard="topk", keep=4)}, x, repeats=5, budget_s=0, memory=False)
    assert found["none"].zero_macs == 0
    assert found["hard"].zero_macs == 2 * 30 * 12 * 8, "the second convolution reads 4 of 16 channels"
    rows = {"networks": {name: one.row() for name, one in found.items()}, "ranking": {"order": [], "alike": []}}
    about = {"model": "m", "shape": [2, 3, 6, 5], "target": "torch", "device": "cpu", "threads": 1, "dtype": "fp32"}
    table = costs_table({**rows, "about": {**about, "amp": False, "channels_last": False, "compile": False}})
    console = Console(width=160)
    with console.capture() as printed:
        console.print(table)
    assert "on zeros" in printed.get()
    assert "compute them all the same" in printed.get()
    soft = costs({"none": network()}, x, repeats=5, budget_s=0, memory=False)["none"]
    assert soft.zero_macs is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("se", {"hard": "gumbel", "temperature": 0}, "temperature must be a positive number; got 0"),
        ("se", {"hard": "gumbel", "temperature": -1.0}, "temperature must be a positive number; got -1.0"),
        ("eca", {"hard": "topk", "keep": 33}, "keep must be at most the 32 channels; got 33"),
        ("se", {"hard": "topk", "keep": 1.5}, "keep must be a whole number or a share of at most 1.0; got 1.5"),
        ("cbam", {"hard": "topk", "keep": 4}, "keep must be a share of at most 1.0; got 4"),
        ("gc", {"hard": "topk", "fusion": "mul", "keep": 33}, "keep must be at most the 32 channels; got 33"),
        ("gc", {"hard": "topk"}, "hard goes with fusion='mul' or 'both', which have gates; got fusion='add'"),
        ("ca", {"hard": "gumbel", "temperature": 0.0}, "temperature must be a positive number; got 0.0"),
        (
            "attention_gate",
            {"hard": "topk", "normalise": "sum"},
            "hard goes with normalise='sigmoid'; got normalise='sum'",
        ),
        ("ese", {"hard": "topk", "temperature": 1.0}, "temperature belongs to hard='gumbel'; got hard='topk'"),
        ("sse", {"keep": 0.5}, "keep belongs to hard='topk'; got hard=None"),
        ("scse", {"hard": "top"}, "hard must be one of None, 'topk', 'straight_through', 'gumbel'; got 'top'"),
    ],
)
def test_switches_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        foveate.create_attention(name, 32, **options)
