"""Fused mechanisms: the same as step by step, and only where nothing but the result is needed."""

import pytest
import torch
from torch import nn
from torch.profiler import profile

import foveate
from foveate.attention import capture
from foveate.kernels import convolve_channels, squeeze_excite, why_not

MECHANISMS = [
    ("se", {}),
    ("se", {"variant": "paper"}),
    ("cse", {}),
    ("eca", {"kernel_size": 5}),
    ("eca", {"shared": False}),
    ("cbam", {}),
    ("cbam", {"variant": "paper", "kernel_size": 3}),
    ("ca", {}),
    ("ca", {"minimum": 20}),
    ("gc", {}),
    ("gc", {"fusion": "both"}),
    ("gc", {"fusion": "mul"}),
]
each = pytest.mark.parametrize(("name", "options"), MECHANISMS, ids=lambda value: str(value))

pytestmark = pytest.mark.skipif(why_not("cpu", torch.ones(1)) is not None, reason="no native code here")


def filled(name, options, dtype=torch.float64):
    """A mechanism whose parameters and statistics are all other than their starting values."""
    module = foveate.create_attention(name, 48, **options).to(dtype)
    with torch.no_grad():
        for p in module.parameters():
            p.normal_(std=0.3)
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
    return module


def step_by_step(module, x, monkeypatch):
    with monkeypatch.context() as changed, torch.no_grad():
        changed.setenv("FOVEATE_NATIVE", "0")
        return module(x)


@each
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(
    "shape", [(2, 48, 7, 9), (1, 48, 33, 5), (5, 48, 1, 1), (3, 48, 40, 65), (1, 48, 9, 8)], ids=str
)
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_in_one_call_as_step_by_step(name, options, training, shape, last, monkeypatch):
    module = filled(name, options).train(training)
    x = torch.randn(shape, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    before = {key: value.clone() for key, value in module.state_dict().items()}
    expected = step_by_step(module, x, monkeypatch)
    after = {key: value.clone() for key, value in module.state_dict().items()}
    module.load_state_dict(before)
    with torch.no_grad():
        y = module(x)
    torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(module.state_dict(), after)
    assert y.stride() == x.stride()


@each
def test_bits_do_not_depend_on_threads(name, options):
    module, x = filled(name, options, torch.float32).eval(), torch.randn(3, 48, 20, 21)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            with torch.no_grad():
                found.append(module(x))
            given = x.clone().requires_grad_()
            found.append(torch.autograd.grad(module(given).square().sum(), given)[0])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(found[k], found[k % 2]) for k in range(len(found)))


@each
def test_what_is_not_finite_comes_out(name, options, monkeypatch):
    module = filled(name, options, torch.float32).eval()
    for value in (float("nan"), float("inf"), -float("inf")):
        x = torch.randn(2, 48, 6, 6)
        x[0, 3, 2, 2] = value
        expected = step_by_step(module, x, monkeypatch)
        with torch.no_grad():
            torch.testing.assert_close(module(x), expected, equal_nan=True, rtol=1e-4, atol=1e-5)


def calls(module, x):
    with profile(acc_events=True) as seen, torch.no_grad():
        module(x)
    return {event.key for event in seen.key_averages()}


@pytest.mark.parametrize(("name", "region"), [("cbam", "cbam"), ("ca", "coordinate"), ("gc", "global_context")])
def test_the_one_call_is_taken_and_named_for_profilers(name, region):
    module, x = filled(name, {}, torch.float32).eval(), torch.randn(2, 48, 8, 8)
    assert f"foveate::{region}" in calls(module, x)
    assert f"foveate::{region}" not in calls(module.bfloat16(), x.bfloat16())


@each
def test_hooks_and_captures_work_as_step_by_step(name, options):
    module, x = filled(name, options, torch.float32).eval(), torch.randn(2, 48, 8, 8)
    with torch.no_grad():
        plain = module(x)
        with capture(module) as seen:
            torch.testing.assert_close(module(x), plain)
        assert seen.maps[""]
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)]
        for layer in layers:
            fired = []
            with layer.register_forward_hook(lambda *_, fired=fired: fired.append(1)):
                torch.testing.assert_close(module(x), plain)
            assert fired


@each
def test_weights_may_lie_otherwise_in_memory(name, options):
    module, x = filled(name, options).eval(), torch.randn(2, 48, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = module(x)
        for p in module.parameters():
            p.data = torch.stack([p, p], -1)[..., 0]  # every other number of its memory
        torch.testing.assert_close(module(x), expected)


def test_gradients_reach_frozen_and_trained_parts():
    module, x = filled("se", {}), torch.randn(2, 48, 5, 5, dtype=torch.float64)
    module.reduce.requires_grad_(False)
    module(x).sum().backward()
    assert module.reduce.weight.grad is None
    assert module.expand.weight.grad.abs().sum() > 0


def test_sizes_that_do_not_match_are_refused():
    x = torch.ones(1, 4, 3, 3)
    with pytest.raises(ValueError, match=r"squeeze_excite: w2 must be \(4, 2\); got \(2, 4\)"):
        squeeze_excite(x, torch.ones(2, 4), None, torch.ones(2, 4), None)
    with pytest.raises(ValueError, match=r"wanted w \(1, 1, k\) or \(4, 1, k\), k odd; got \(1, 1, 2\)"):
        convolve_channels(x, torch.ones(1, 1, 2))
