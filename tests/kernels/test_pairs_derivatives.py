"""Derivatives of derivatives over pairs of tokens, many gradients at once, and the transforms of torch.func."""

import pytest
import torch
from attention_cases import BY_NAME, build
from test_attend import attention_inputs, largest_allocation, relu_inputs

from foveate.attention.iastp import layer
from foveate.kernels import attend, sum_relu

FORMS = {
    "fused": (attend, {"scale": 0.6, "impl": "fused"}),
    "blocked": (attend, {"scale": 0.6, "impl": "blocked"}),
    "fused, two heads": (attend, {"heads": 2, "impl": "fused"}),
    "blocked, two heads": (attend, {"heads": 2, "impl": "blocked"}),
    "sum_relu": (sum_relu, {"impl": "blocked"}),
}
each_form = pytest.mark.parametrize("form", FORMS)
MODULES = [
    ("nl", {}),
    ("nl", {"form": "gaussian"}),
    ("nl", {"form": "dot_product", "width": 3}),
    ("nl", {"form": "concatenation", "sub_sample": True}),
    ("danet_position", {}),
    ("danet_position", {"variant": "paper"}),
    ("danet_channel", {}),
    ("sra", {"heads": 2}),
    ("iastp", {"size": (2, 3)}),
]
each_module = pytest.mark.parametrize(("name", "options"), MODULES, ids=str)


def both(form):
    run, options = FORMS[form]
    return (lambda *t: run(*t, **options)), (lambda *t: run(*t, **{**options, "impl": "reference"}))


def inputs_of(form, p=5, k=7, dtype=torch.float64):
    run, options = FORMS[form]
    if run is sum_relu:
        return [t.requires_grad_() for t in relu_inputs(2, p, k, 3, dtype)]
    values = 4 if options["impl"] == "fused" else 2
    return [t.requires_grad_() for t in attention_inputs(2, p, k, 4, values, options.get("heads", 1), dtype)]


def nested(run, inputs, order):
    """The gradients of this order, each of a square of those before."""
    found = [run(*inputs)]
    for _ in range(order):
        found = torch.autograd.grad(sum(t.square().sum() for t in found), inputs, create_graph=True)
    return found


@each_form
def test_second_derivatives_are_those_of_finite_differences(form):
    assert torch.autograd.gradgradcheck(both(form)[0], inputs_of(form))


@each_form
@pytest.mark.parametrize("order", [2, 3])
def test_derivatives_of_a_higher_order_are_the_references(form, order):
    inputs = inputs_of(form)
    found, wanted = (nested(run, inputs, order) for run in both(form))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@each_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_second_derivatives_over_many_blocks(form, dtype):
    inputs = inputs_of(form, 300, 1100, dtype)
    exact = nested(both(form)[1], [t.detach().double().requires_grad_() for t in inputs], 2)
    for one, other in zip(nested(both(form)[0], inputs, 2), exact, strict=True):
        assert one.dtype == dtype
        error = (one.double() - other).norm() / other.norm()
        assert error < (1e-5 if dtype == torch.float32 else 0.05)


@each_form
def test_many_gradients_at_once(form):
    run, reference = both(form)
    inputs = inputs_of(form)
    y, wanted = run(*inputs), reference(*inputs)
    many = torch.randn(4, *y.shape, dtype=y.dtype)
    for found, other in zip(
        torch.autograd.grad(y, inputs, many, is_grads_batched=True, retain_graph=True),
        torch.autograd.grad(wanted, inputs, many, is_grads_batched=True),
        strict=True,
    ):
        torch.testing.assert_close(found, other)
    over = torch.func.vmap(lambda dy: torch.autograd.grad(y, inputs, dy, retain_graph=True))(many)
    for found, dy in zip(zip(*over, strict=True), many, strict=True):
        for one, other in zip(found, torch.autograd.grad(run(*inputs), inputs, dy), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore")  # torch's own
@pytest.mark.parametrize("name", ["attend_blocks_backward", "sum_relu_backward"])
def test_backward_operators_keep_the_rules_of_torch_library(name):
    form = "blocked" if name.startswith("attend") else "sum_relu"
    inputs = [t.detach() for t in inputs_of(form)]
    y = both(form)[0](*inputs)
    beside = (*torch.ops.foveate.attend_blocks(*inputs, 0.6), 0.6) if form == "blocked" else ()
    given = [t.requires_grad_() for t in (torch.randn_like(y), *inputs)]
    torch.library.opcheck(getattr(torch.ops.foveate, name).default, (*given, *beside))


@each_module
def test_modules_have_second_derivatives(name, options):
    module = build(BY_NAME[name], options, dtype=torch.float64)
    x = torch.randn(2, 32, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(module, x, fast_mode=True, atol=1e-5)


def test_rows_in_parts_have_second_derivatives(monkeypatch):
    monkeypatch.setattr(layer, "AT_ONCE", 60)
    module = build(BY_NAME["iastp"], {"size": (4, 4)}, dtype=torch.float64)
    x = torch.randn(1, 32, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(module, x, fast_mode=True, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [("nl", {}), ("nl", {"form": "gaussian"}), ("nl", {"form": "concatenation"}), ("danet_position", {})],
    ids=str,
)
def test_a_gradient_penalty_holds_no_map_of_pairs(name, options):
    module = build(BY_NAME[name], options).train()
    x = torch.randn(1, 32, 44, 46, requires_grad=True)

    def step():
        (slope,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
        slope.square().sum().backward()

    step()
    assert largest_allocation(step) < (44 * 46) ** 2 * 4 / 6


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch itself calls it
@each_module
def test_transforms_of_torch_func_through_modules(name, options):
    module = build(BY_NAME[name], options, dtype=torch.float64)
    x, along = torch.randn(2, 3, 32, 2, 3, dtype=torch.float64).unbind()
    torch.testing.assert_close(torch.func.vmap(lambda one: module(one[None])[0])(x), module(x))
    jacobian = torch.autograd.functional.jacobian(lambda t: module(t).sum((0, 1)), x)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(transform(lambda t: module(t).sum((0, 1)))(x), jacobian)
    _, moved = torch.func.jvp(module, (x,), (along,))
    torch.testing.assert_close(moved.sum((0, 1)), (jacobian * along).sum((2, 3, 4, 5)))
    product = torch.func.jvp(torch.func.grad(lambda t: module(t).square().sum()), (x,), (along,))[1]
    _, wanted = torch.autograd.functional.hvp(lambda t: module(t).square().sum(), x, along)
    torch.testing.assert_close(product, wanted)
