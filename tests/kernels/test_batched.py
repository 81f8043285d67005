"""Many derivatives at once: batched gradients, Jacobians, Hessians and vmap, against those of plain torch."""

import pytest
import torch
from attention_cases import BY_NAME, build
from kernel_cases import CASES
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call

from foveate.kernels import _dispatch, why_not

MECHANISMS = ("se", "eca", "cbam", "ca", "gc", "sa", "sge", "scse", "drsn_cs")
SHAPE = (2, 6, 3, 4)


def many(y, inputs, **options):
    """The gradients of three cotangents in one batch."""
    cotangents = torch.randn(3, *y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(3))
    return torch.autograd.grad(y, inputs, cotangents, is_grads_batched=True, **options)


def of_many(module, x):
    x = x.requires_grad_()
    return many(module(x), [x, *module.parameters()])


def of_a_gradient(module, x):
    x = x.requires_grad_()
    (slope,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
    return many(slope, [x, *module.parameters()], allow_unused=True)


def samples(module, x):
    """The gradients of the parameters for each sample."""
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    slopes = torch.func.grad(lambda p, one: functional_call(module, p, (one[None],)).square().sum())
    return list(torch.func.vmap(slopes, (None, 0))(parameters, x).values())


def copies(module, x):
    """One map through three sets of parameters."""
    sets = {name: torch.stack([p, p + 0.1, 2 * p]).detach() for name, p in module.named_parameters()}
    return [torch.func.vmap(lambda p: functional_call(module, p, (x,)))(sets)]


WAYS = {
    "is_grads_batched": of_many,
    "is_grads_batched of a gradient": of_a_gradient,
    "jacobian in one batch": lambda module, x: [jacobian(lambda x: module(x).sum((0, 2, 3)), x, vectorize=True)],
    "hessian in one batch": lambda module, x: [
        hessian(lambda x: module(x).square().sum(), x[:1, :, :1], vectorize=True)
    ],
    "vmap": lambda module, x: [torch.func.vmap(lambda one: module(one[None])[0])(x)],
    "vmap of grad": samples,
    "vmap over parameters": copies,
    "jacrev": lambda module, x: [torch.func.jacrev(lambda x: module(x).sum((0, 2, 3)))(x)],
    "jacfwd": lambda module, x: [torch.func.jacfwd(lambda x: module(x).sum((0, 2, 3)))(x[:1, :, :1])],
    "hessian": lambda module, x: [torch.func.hessian(lambda x: module(x).square().sum())(x[:1, :, :1])],
}


def assert_alike(got, wanted):
    for one, other in zip(got, wanted, strict=True):
        if other is None:
            assert one is None
        else:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11 * other.abs().max().item() + 1e-13)


@pytest.fixture(autouse=True)
def _native():
    if reason := why_not("cpu", torch.ones(1, 1, 1, dtype=torch.float64)):
        pytest.skip(reason)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch itself calls it
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MECHANISMS)
def test_many_derivatives_of_a_mechanism_are_those_of_plain_torch(name, way, monkeypatch):
    case = BY_NAME[name]
    module = build(case, case.variants[0]).double().eval()
    x = torch.randn(2, case.channels, 3, 4, dtype=torch.float64)
    got = WAYS[way](module, x.clone())
    monkeypatch.setitem(_dispatch.PREFERRED, "cpu", "reference")
    assert_alike(got, WAYS[way](module, x.clone()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients_in_a_batch_are_those_of_the_reference(case):
    inputs = [t.requires_grad_() for t in case.inputs(SHAPE)]
    found = []
    for impl in ("cpu", "reference"):
        outputs = case.run(impl, *inputs)
        each = [many(y, inputs, retain_graph=True, allow_unused=True) for y in outputs]
        summed = many(sum(y.sum() for y in outputs), inputs)  # of gradients that are one number, expanded
        found.append([*(gradient for one in each for gradient in one), *summed])
    assert_alike(*found)
