"""The state of the inserted attention: weights without a gradient, strength, change of the features, gates."""

import pytest
import torch

import foveate
from foveate.files import read_json
from foveate.summary import AttentionState
from foveate.train.attention_state import STATE, WATCHED, AttentionWatch, gate_state

X = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 2, 8).view(8, 1, 1, 1)


def with_attention(name, **options):
    torch.manual_seed(0)
    model = foveate.create_network("resnet8", num_classes=4)
    foveate.insert(model, name, example=X, **options)
    return model


def state_of(watch, model, folder):
    watch.write(folder, model, lambda: model(X), len(X))
    return AttentionState.of("se", 3, read_json(folder / STATE))


def step(model, watch, lr=0.0):
    model(X).square().sum().backward()
    watch.after_backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= lr * parameter.grad
    model.zero_grad()


def test_a_gate_whose_hidden_units_are_off_has_weights_without_gradient_and_is_constant(tmp_path):
    model = with_attention("se", reduction=8)
    with torch.no_grad():
        for _, se in foveate.inserted(model):
            se.expand.weight.mul_(10)
        foveate.inserted(model)[1][1].reduce.bias.fill_(-100)
    watch = AttentionWatch(model)
    for _ in range(3):
        step(model, watch, lr=0.01)
    state = state_of(watch, model, tmp_path)
    assert (state.label, state.seed, state.batches, state.items) == ("se", 3, 3, 8)
    assert [site.site for site in state.sites] == [name for name, _ in foveate.inserted(model)]
    dead, *others = sorted(state.sites, key=lambda site: not site.blind)
    assert dead.site == foveate.inserted(model)[1][0]
    assert dead.without_gradient == ("reduce.weight", "reduce.bias", "expand.weight")
    assert dead.is_constant
    assert dead.gates["channel"].deviation == 0
    for site in others:
        assert (site.without_gradient, site.blind, site.is_constant, site.is_off) == ((), False, False, False)
        assert site.strength is None
        assert site.attention == "SqueezeExcitation"
        assert 0 < site.moved < 1
    with foveate.capture(model) as seen, torch.no_grad():
        model(X)
    for site in others:
        gate = seen.maps[site.site]["channel"]
        assert site.gates["channel"].mean == pytest.approx(gate.mean().item(), rel=1e-5)
        assert site.gates["channel"].deviation == pytest.approx(
            gate.var(0, correction=0).mean().sqrt().item(), rel=1e-4
        )


def test_the_blend_of_an_identity_start_gets_the_only_gradient_at_first_and_is_off(tmp_path):
    model = with_attention("cbam", init="identity", reduction=8)
    watch = AttentionWatch(model)
    step(model, watch)
    state = state_of(watch, model, tmp_path)
    assert all(site.is_off and site.strength == 0 and site.change == 0 and site.blind for site in state.sites)
    step(model.train(), watch, lr=1e-3)
    step(model, watch)
    for site, (_, blend) in zip(state_of(watch, model, tmp_path).sites, foveate.inserted(model), strict=True):
        assert not site.blind
        assert site.strength == pytest.approx(blend.strength.item())
        assert site.is_off == (site.change < 1 / 512)


def test_a_resumed_watch_goes_on_and_ends_after_the_first_batches(tmp_path):
    model = with_attention("se", reduction=8)
    watch = AttentionWatch(model)
    step(model, watch)
    other = AttentionWatch(model)
    other.resume(watch.facts())
    assert other.facts() == watch.facts() != AttentionWatch(model).facts()
    other.batches = WATCHED
    other.reached.clear()
    step(model, other)
    assert other.facts() == {"batches": WATCHED, "reached": []}


def test_describing_draws_no_random_number_and_changes_no_weight(tmp_path):
    model = with_attention("cbam", reduction=8)
    watch = AttentionWatch(model)
    before, generator = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    state_of(watch, model, tmp_path)
    assert torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model.training


def test_what_replaces_a_layer_has_no_change_and_an_added_one_that_of_its_blend(tmp_path):
    model = with_attention("sk", at="layer2.0.conv2", replace=True)
    (replaced,) = state_of(AttentionWatch(model), model, tmp_path).sites
    assert replaced.change is None
    assert not replaced.is_off
    model = with_attention("sk", at="layer2.0.conv2", replace=True, init="identity")
    (blended,) = state_of(AttentionWatch(model), model, tmp_path).sites
    assert blended.change == 0
    assert blended.is_off


def test_saturation_is_of_gates_and_not_of_a_softmax_over_positions():
    assert gate_state(torch.tensor([[0.0, 1.0], [0.5, 0.995]])).saturated == 0.75
    assert gate_state(torch.softmax(torch.randn(4, 64), 1)).saturated is None
    assert gate_state(torch.randn(4, 64)).saturated is None
    assert gate_state(torch.tensor([[0.5, 0.25], [0.5, 0.2501]])).constant
    assert not gate_state(torch.tensor([[0.5, 0.25], [0.5, 0.26]])).constant
    assert gate_state(torch.full((2, 3), float("nan"))).mean is None
