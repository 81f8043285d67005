"""Controls: they cost what a variant costs, on any network; they are built, saved and built again."""

import math

import pytest
import torch

import foveate
from foveate.attention import PositionwiseLayer, Shuffled
from foveate.cli import parse
from foveate.controls import Control, Layer
from foveate.counting import count
from foveate.data import open_data
from foveate.insertion import inserted
from foveate.spec import DataSpec, Study, Training, Variant
from foveate.study.build import build_for
from foveate.study.controls.match import (
    Place,
    channels_more,
    layers_of_macs,
    layers_of_parameters,
    layers_of_share,
)
from foveate.study.plan import Planner, make_plan
from foveate.study_file import check_study, study_toml
from foveate.tasks import create_task

SMALL = DataSpec(train_items=40, test_items=20)
PLACES = [Place(16, (32, 32), 49, 1000), Place(32, (16, 16), 162, 5000), Place(64, (8, 8), 580, 700)]


def planned(*variants, network="foveate:resnet8", **changes):
    """Sizes beyond the plain network by arm (parameters, multiply-adds of an item), the plan and its planner."""
    variants = tuple(Variant.model_validate(one) for one in ("none", *variants))
    train = Training(epochs=10, batch_size=8)
    study = Study(**{"network": network, "variants": variants, "seeds": (0,), "data": SMALL, "train": train} | changes)
    data = open_data(study.data)
    task = create_task(study.task, data)
    plan, planner = make_plan(study, data, task), Planner(study, data, task)
    sizes = {run.arm: planner.size(run) for run in plan.runs}
    plain = sizes["none"]
    return {arm: (size[0] - plain[0], (size[1] - plain[1]) // 2) for arm, size in sizes.items()}, plan, planner


@pytest.mark.parametrize("total", [1, 48, 791, 30_000])
def test_layers_have_the_parameters_to_the_last_one(total):
    layers = layers_of_parameters(PLACES, total)
    built = [PositionwiseLayer(place.channels, **vars(layer)) for place, layer in zip(PLACES, layers, strict=True)]
    assert sum(p.numel() for layer in built for p in layer.parameters()) == total


@pytest.mark.parametrize("total", [6_700, 133_056, 20_709_376])
def test_layers_have_the_multiply_adds_to_a_hundredth(total):
    layers = layers_of_macs(PLACES, total)
    found = 0
    for place, layer in zip(PLACES, layers, strict=True):
        built = PositionwiseLayer(place.channels, **vars(layer))
        found += count(built, torch.zeros(1, place.channels, *place.shape), kept=False).macs
    assert abs(found - total) <= 0.01 * total


@pytest.mark.parametrize(("total", "off"), [(791, 80), (11_256, 20), (400_000, 20)])
def test_inner_widths_grow_in_proportion_to_the_nearest_sum(total, off):
    widths = [(16, 290), (32, 435), (64, 1154)]
    more = channels_more(widths, total)
    assert abs(sum(n * cost for n, (_, cost) in zip(more, widths, strict=True)) - total) <= off
    assert min(more) >= 0


def test_layers_grow_one_after_another_with_their_share():
    widths = [[layer.hidden for layer in layers_of_share(PLACES, share / 192)] for share in range(200)]
    totals = [sum(one) for one in widths]
    assert totals == sorted(totals)
    assert totals[1] == 1, "the first step is one hidden channel"
    assert widths[192] == [16, 32, 64]


def test_a_layer_starts_as_the_identity_and_learns_at_its_grid():
    x = torch.randn(2, 8, 6, 6)
    layer = PositionwiseLayer(8, hidden=3, scaled=5, shifted=2, grid=2)
    assert torch.equal(layer(x), x)
    layer(x).square().sum().backward()
    assert layer.up.weight.grad.abs().sum() > 0
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    added = (layer(x) - x)[:, :, 0, :3]
    assert torch.allclose(added, added[..., :1].expand_as(added), atol=1e-5), "one value for each cell of 3×3"
    with pytest.raises(ValueError, match="scaled and shifted of 0 to 8; got 0, 0, 9 and 0"):
        PositionwiseLayer(8, scaled=9)


def test_a_shuffled_attention_weighs_each_channel_as_another():
    x = torch.ones(1, 32, 4, 4) * torch.arange(1.0, 33)[:, None, None]
    placebo = Shuffled(32, attention="se", options=[["reduction", 4]])
    plain = (placebo.attention(x) / x)[0, :, 0, 0]
    placebo.eval()
    gates = (placebo(x) / x)[0, :, 0, 0]
    assert torch.equal(placebo(x), placebo(x))
    assert not torch.allclose(gates, plain)
    placebo.train()
    assert not torch.equal(placebo(x), placebo(x)), "drawn anew at each training pass"
    spatial = Shuffled(4, attention="sa", options=[["groups", 1]]).eval()
    assert spatial(torch.randn(2, 4, 5, 7)).shape == (2, 4, 5, 7)


def test_controls_of_a_study_cost_what_their_variants_cost():
    sizes, plan, planner = planned("se", "cbam", "eca", "nl", control="size")
    for name in ("se", "cbam", "nl"):
        assert sizes[f"conv control of {name}"][0] == sizes[name][0]
    assert sizes["shuffled control of eca"] == sizes["eca"]
    assert "eca has no control of the form 'conv': it adds 9 parameters at 3 sites" in plan.notes[0]
    assert make_plan(planner.study, planner.data, planner.task, plan.to_json()).arms == plan.arms
    assert len({run.key for run in plan.runs}) == len(plan.runs)
    sizes, *_ = planned("se", "cbam", "eca", "nl", control="macs")
    for name in ("se", "cbam", "eca", "nl"):
        assert math.isclose(sizes[f"conv control of {name}"][1], sizes[name][1], rel_tol=0.01)


def test_a_network_that_cannot_be_widened_by_one_factor_has_a_control():
    sizes, *_ = planned("gc", network="foveate:unet_small", task="segmentation", controls=("conv", "wider"))
    assert sizes["conv control of gc"][0] == sizes["gc"][0] > 0
    assert abs(sizes["wider control of gc"][0] / sizes["gc"][0] - 1) < 0.01


def test_larger_plain_networks_and_placebos():
    variants = ({"attention": "se", "options": {"reduction": 4}}, "nl")
    controls = ("wider", "block", "frozen", "shuffled")
    sizes, plan, planner = planned(*variants, network="foveate:resnet14", control="size", controls=controls)
    se, nl = "se (reduction=4)", "nl"
    assert sizes[f"frozen control of {se}"] == sizes[f"shuffled control of {se}"] == sizes[se]
    assert sizes[f"block control of {nl}"] == (18_560, 2 * 2 * 9 * 32 * 32 * 8 * 8 * 2), "a block of the second stage"
    assert abs(sizes[f"wider control of {nl}"][0] / sizes[nl][0] - 1) < 0.01
    runs = {run.arm: run for run in plan.runs}
    frozen = planner.build(runs["frozen control of nl"], "cpu")
    gates = [p for _, module in inserted(frozen) for p in module.parameters()]
    assert gates
    assert not any(p.requires_grad for p in gates)
    x = planner.example(runs["none"], "cpu") + 1
    plain = planner.build(runs["none"], "cpu")
    assert not torch.allclose(frozen.eval()(x), plain.eval()(x)), "its last norm does not start at zero"
    for run in plan.runs:  # the plain weights are those of the seed in every arm that has them all
        state = planner.build(run, "cpu").state_dict()
        if not run.arm.startswith("wider"):
            assert all(torch.equal(state[key], value) for key, value in plain.state_dict().items())


def test_a_replacement_is_shuffled_where_it_stands_behind_a_layer():
    layers = {"network_options": {"widths": [32, 64, 64]}, "controls": ("shuffled",)}
    sizes, *_ = planned("sk", **layers)
    assert sizes["shuffled control of sk"] == sizes["sk"]
    _, plan, _ = planned({"attention": "sk", "at": ["layer2.0.conv2"], "replace": True}, **layers)
    assert len(plan.arms) == 2
    assert plan.notes[0].endswith("sk replaces a convolution, whose positions cannot be shuffled")


def test_a_trained_network_is_frozen_around_its_control_as_around_the_attention():
    variant = Variant(attention="se", freeze=True, init="identity")
    run = planned()[2].run(variant, control=Control(form="conv", layers=(Layer(hidden=1),) * 3))
    model = build_for(run, open_data(SMALL), 10)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        name for name, _ in model.named_parameters() if ".foveate." in name
    }


@pytest.mark.parametrize("form", ["conv", "shuffled", "wider", "block"])
def test_a_control_is_saved_and_built_again(form, tmp_path):
    sizes, plan, planner = planned("cbam", network="foveate:resnet14", controls=(form,))
    (run,) = [run for run in plan.runs if run.arm.startswith(form)]
    model = planner.build(run, "cpu").eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(2, 1, 32, 32)
    again = foveate.load(foveate.save(model, tmp_path / "control.safetensors"))
    assert torch.equal(again(x), model(x))
    assert sizes[run.arm][0] > 0


def test_a_longer_training_takes_the_time_of_the_variants(monkeypatch):
    class Ratio:
        median = 1.26

    class Found:
        train_step_ratio = Ratio()

    monkeypatch.setattr("foveate.study.controls.choose.costs", lambda models, x, **_: dict.fromkeys(models, Found()))
    _, plan, _ = planned("se", "eca", controls=("longer",))
    longer = plan.arms[-1]
    assert (longer.label, longer.epochs, longer.matches) == ("longer control of se, eca", 13, ("se", "eca"))
    assert [run.train.epochs for run in plan.runs] == [10, 10, 10, 13]
    assert plan.runs[-1].model_copy(update={"train": plan.runs[0].train}).key == plan.runs[0].key
    Ratio.median = 1.04
    assert (
        "takes 1.04 times the plain network's, which adds no whole epoch"
        in planned("se", controls=("longer",))[1].notes[0]
    )


def test_layers_are_as_slow_as_the_attention_by_what_was_measured(monkeypatch):
    class Ratio:
        def __init__(self, median):
            self.median = median

    class Found:
        def __init__(self, seconds, of):
            self.latency_ratio = Ratio(seconds / of)

    def by_parameters(models, x, **_):
        seconds = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
        return {name: Found(one, seconds["variant"]) for name, one in seconds.items()}

    monkeypatch.setattr("foveate.study.controls.choose.costs", by_parameters)
    sizes, *_ = planned("nl", control="latency")
    assert abs(sizes["conv control of nl"][0] / sizes["nl"][0] - 1) <= 0.01
    monkeypatch.setattr(
        "foveate.study.controls.choose.costs", lambda models, x, **_: dict.fromkeys(models, Found(1, 1))
    )
    assert "its latency is not measurably above the plain network's" in planned("nl", control="latency")[1].notes[0]


def test_controls_as_flags_and_as_toml():
    assert parse.control(None) == {}
    assert parse.control("latency") == {"control": "latency", "controls": []}
    study = check_study(parse.control("macs:conv,frozen"))
    assert (study.control, study.controls) == ("macs", ("conv", "frozen"))
    assert 'controls = ["conv", "frozen"]' in study_toml(study)
