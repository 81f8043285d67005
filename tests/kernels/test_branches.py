"""Branches beyond the table of primitives: numbers of maps, memory layouts, which have gradients, refusals."""

import pytest
import torch

import foveate
from foveate.kernels import accumulate_branch_gradients, mix_branches, pool_branches, why_not


@pytest.fixture(autouse=True)
def _native():
    if reason := why_not("cpu", torch.ones(1, 1, 1)):
        pytest.skip(reason)


def laid_last(x):
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def both(maps, weights, wanted):
    """Outputs and gradients of both forms, pooled and mixed twice."""
    for impl in ("cpu", "reference"):
        branches = accumulate_branch_gradients(maps, impl=impl)
        first = mix_branches(branches, weights)
        pooled = pool_branches(branches)
        turned = pooled.T.contiguous().T  # whose gradient lies otherwise
        y = mix_branches(branches, weights.flip(1) * (pooled * turned).unsqueeze(1)) + first.square()
        yield [y, *torch.autograd.grad(y.square().sum(), wanted, retain_graph=True)]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("last", [(False,), (True,), (True, False)], ids=["first", "last", "mixed"])
def test_any_number_of_maps_laid_in_any_way_mixed_twice(count, last):
    shape = (2, 40, 9, 70)  # more rows and columns than are in work at a time
    maps = [torch.randn(shape, dtype=torch.float64) for _ in range(count)]
    maps = [(laid_last(x) if last[m % len(last)] else x).requires_grad_() for m, x in enumerate(maps)]
    weights = torch.rand(2, count, 40, dtype=torch.float64, requires_grad=True)
    for got, expected in zip(*both(maps, weights, [weights, *maps]), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_gradients_of_some_of_the_maps_or_of_the_weights_alone():
    maps = [torch.randn(2, 6, 7, 5, dtype=torch.float64) for _ in range(3)]
    weights = torch.rand(2, 3, 6, dtype=torch.float64, requires_grad=True)
    for wanted in ([weights], [weights, maps[1].requires_grad_()], [maps[1]]):
        given = weights if wanted[0] is weights else weights.detach()
        for got, expected in zip(*both(maps, given, wanted), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        assert not mix_branches(maps, weights).requires_grad


def test_selective_kernels_on_a_large_map_are_as_written():
    module = foveate.create_attention("sk", 32).double()
    x = torch.randn(2, 32, 60, 61, dtype=torch.float64, requires_grad=True)
    seen = [branch(x) for branch in module.branches]
    assert accumulate_branch_gradients(seen).impl == "cpu"
    hidden = torch.relu(module.norm(module.reduce(sum(seen).mean((2, 3)))))
    weights = torch.softmax(module.expand(hidden).unflatten(1, (2, 32)), 1)[..., None, None]
    expected = seen[0] * weights[:, 0] + seen[1] * weights[:, 1]
    y, wanted = module(x), [x, *module.parameters()]
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    gradients = (torch.autograd.grad(out.square().sum(), wanted) for out in (y, expected))
    for got, true in zip(*gradients, strict=True):
        torch.testing.assert_close(got, true, rtol=1e-9, atol=1e-9)


def test_small_maps_take_plain_torch_unless_a_form_is_requested():
    small, large = torch.ones(1, 2, 8, 8), torch.ones(1, 32, 64, 64)
    forms = [accumulate_branch_gradients([x, x], impl=impl).impl for x in (small, large) for impl in (None, "cpu")]
    assert forms == ["reference", "cpu", "cpu", "cpu"]


def test_maps_that_differ_are_refused():
    x = torch.ones(1, 2, 3, 3)
    with pytest.raises(ValueError, match=r"accumulate_branch_gradients: wanted maps of one shape.*; got none"):
        accumulate_branch_gradients([])
    with pytest.raises(ValueError, match=r"mix_branches: wanted maps of one shape.*\(1, 2, 3, 3\).*\(1, 2, 3\)"):
        mix_branches([x, x[..., 0]], torch.ones(1, 2, 2))
    with pytest.raises(ValueError, match=r"pool_branches: wanted maps of one shape.*float64"):
        pool_branches([x, x.double()])
    with pytest.raises(ValueError, match=r"mix_branches: weights must be \(1, 2, 2\); got \(1, 2\)"):
        mix_branches([x, x], torch.ones(1, 2))
    with pytest.raises(RuntimeError, match=r"mix_branches\(impl='cpu'\): cpu works on float32, bfloat16 and float64"):
        mix_branches([x.half(), x.half()], torch.ones(1, 2, 2), impl="cpu")
