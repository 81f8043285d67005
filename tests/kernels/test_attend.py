"""Attention and the sum over ReLUs without a map of pairs: every form against its reference, and peak memory."""

import copy

import pytest
import torch
from attention_cases import BY_NAME, build
from test_kernels import assert_no_worse
from torch.profiler import ProfilerActivity, profile

import foveate
from foveate.kernels import attend, sum_relu

each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)


def attention_inputs(n, p, k, d, e, heads, dtype=torch.float64):
    return [torch.randn(n, tokens, heads * width).to(dtype) for tokens, width in ((p, d), (k, d), (k, e))]


def relu_inputs(n, p, k, e, dtype=torch.float64):
    return [torch.randn(shape).to(dtype) for shape in ((n, p, 1), (n, 1, k), (n, k, e))]


def with_gradients(run, inputs):
    inputs = [t.detach().requires_grad_() for t in inputs]
    y = run(*inputs)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(y.dtype)
    return y, *torch.autograd.grad(y, inputs, dy)


def check(run, reference, inputs, terms):
    got, plain = with_gradients(run, inputs), with_gradients(reference, inputs)
    exact = with_gradients(reference, [t.double() for t in inputs])
    for one, other, true in zip(got, plain, exact, strict=True):
        assert one.dtype == inputs[0].dtype
        assert_no_worse(one, other, true.detach(), terms)


EQUAL_WIDTHS = [(2, 7, 5, 3, 3, 1), (1, 1, 1, 1, 1, 1), (3, 257, 513, 4, 4, 2)]  # which torch's CPU kernel requires
OTHER_WIDTHS = [(2, 300, 1100, 2, 5, 1), (2, 6, 9, 5, 2, 3)]


@each_dtype
@pytest.mark.parametrize(
    ("impl", "n", "p", "k", "d", "e", "heads"),
    [*(("fused", *sizes) for sizes in EQUAL_WIDTHS), *(("blocked", *sizes) for sizes in EQUAL_WIDTHS + OTHER_WIDTHS)],
)
def test_attend_is_no_further_from_float64_than_twice_plain_torch(impl, dtype, n, p, k, d, e, heads):
    check(
        lambda *given: attend(*given, heads=heads, scale=0.7, impl=impl),
        lambda *given: attend(*given, heads=heads, scale=0.7, impl="reference"),
        attention_inputs(n, p, k, d, e, heads, dtype),
        terms=max(p, k),
    )


@each_dtype
@pytest.mark.parametrize(("n", "p", "k", "e"), [(2, 7, 5, 3), (1, 1, 1, 1), (2, 300, 1100, 4)])
def test_sum_relu_is_no_further_from_float64_than_twice_plain_torch(dtype, n, p, k, e):
    check(
        lambda *given: sum_relu(*given, impl="blocked"),
        lambda *given: sum_relu(*given, impl="reference"),
        relu_inputs(n, p, k, e, dtype),
        terms=max(p, k),
    )


def test_heads_are_attended_one_by_one():
    q, k, v = attention_inputs(2, 5, 7, 3, 4, 2)
    parts = [attend(q[..., 3 * h :][..., :3], k[..., 3 * h :][..., :3], v[..., 4 * h :][..., :4]) for h in range(2)]
    torch.testing.assert_close(attend(q, k, v, heads=2), torch.cat(parts, 2))


@pytest.mark.parametrize("impl", ["fused", "blocked"])
@pytest.mark.parametrize("lay", ["transposed", "expanded", "overlapping", "sliced"])
def test_attend_takes_tokens_of_any_strides(impl, lay):
    base = torch.randn(2, 12, 40, dtype=torch.float64)
    made = {
        "transposed": lambda: base.mT,
        "expanded": lambda: base[:1, :, :1].mT.expand(2, 40, 12),
        "overlapping": lambda: base.as_strided((2, 40, 12), (0, 1, 2)),
        "sliced": lambda: base[:, :10, 1::3],
    }[lay]()
    wanted = with_gradients(lambda *t: attend(*t, impl="reference"), [made.contiguous()] * 3)
    for one, other in zip(with_gradients(lambda *t: attend(*t, impl=impl), [made] * 3), wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("impl", ["blocked", None])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_comes_through(impl, value):
    for keys in (6, 1030):
        q, k, v = (t.abs() for t in attention_inputs(2, 5, keys, 3, 3, 1))
        for place in (q[0, 2], q[0, 2, 1], k[0, 2, 1], k[0], v[0, 2, 1]):
            kept = place.clone()
            place.fill_(value)
            torch.testing.assert_close(attend(q, k, v, impl=impl), attend(q, k, v, impl="reference"), equal_nan=True)
            place.copy_(kept)
    a, b, v = relu_inputs(2, 5, 7, 3)
    a[0, 2] = value
    torch.testing.assert_close(sum_relu(a, b, v), sum_relu(a, b, v, impl="reference"), equal_nan=True)


@pytest.mark.parametrize(("n", "p", "k"), [(0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_nothing_to_attend_or_to_attend_to_gives_what_the_reference_gives(n, p, k):
    y, *gradients = with_gradients(lambda *t: attend(*t), attention_inputs(n, p, k, 3, 2, 1))
    assert y.shape == (n, p, 2)
    assert not y.any()
    assert not any(gradient.any() for gradient in gradients)
    assert sum_relu(*relu_inputs(n, p, k, 2)).shape == (n, p, 2)


def test_under_autocast_the_softmax_is_in_float32():
    q, k, v = (t.float() for t in attention_inputs(1, 40, 700, 16, 8, 1))
    exact = attend(q.bfloat16().double() * 4, k.bfloat16().double() * 4, v.bfloat16().double())
    for given in ([q, k, v], [q, k.bfloat16(), v.bfloat16()]):
        with torch.autocast("cpu", torch.bfloat16):
            mixed = attend(given[0] * 4, given[1] * 4, given[2])
        assert mixed.dtype == torch.bfloat16
        assert (mixed.double() - exact).abs().max() < 2**-7 * exact.abs().max()


@pytest.mark.filterwarnings("ignore")  # torch's own
def test_operators_keep_the_rules_of_torch_library():
    given = [t.float().requires_grad_() for t in attention_inputs(2, 5, 7, 3, 4, 1)]
    torch.library.opcheck(torch.ops.foveate.attend_blocks.default, (*given, 0.5))
    given = [t.float().requires_grad_() for t in relu_inputs(2, 5, 7, 3)]
    torch.library.opcheck(torch.ops.foveate.sum_relu.default, tuple(given))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch itself calls it
def test_transforms_of_torch_func_are_given_the_reference():
    q, k, v = attention_inputs(3, 4, 5, 2, 3, 1)
    each = torch.func.vmap(lambda *t: attend(*(one[None] for one in t))[0])(q, k, v)
    torch.testing.assert_close(each, attend(q, k, v))
    _, along = torch.func.jvp(lambda v: attend(q, k, v), (v,), (v,))
    torch.testing.assert_close(along, attend(q, k, v))


def test_a_form_that_cannot_run_and_sizes_that_differ_are_refused_in_one_line():
    q, k, v = attention_inputs(2, 4, 5, 3, 2, 1)
    for message, run in (
        ("impl must be one of 'reference', 'fused', 'blocked' or None; got 'cpu'", lambda: attend(q, k, v, impl="cpu")),
        ("equal widths; queries have 3, values 2", lambda: attend(q, k, v, impl="fused")),
        ("needs tensors with elements", lambda: attend(q[:0], k[:0], v[:0], impl="blocked")),
        ("wanted queries, keys and values as", lambda: attend(q[0], k, v)),
        (r"values \(N, K, E\); got \(2, 4, 3\), \(2, 4, 3\), \(2, 5, 2\)", lambda: attend(q, q, v)),
        ("heads must divide the widths 3 and 2; got heads=3", lambda: attend(q, k, v, heads=3)),
        ("wanted one dtype; got torch.float32, torch.float64", lambda: attend(q.float(), k, v)),
        ("wanted a .N, P, 1., b .N, 1, K.", lambda: sum_relu(q, k, v)),
        ("impl must be one of 'reference', 'blocked'", lambda: sum_relu(*relu_inputs(1, 2, 3, 4), impl="fused")),
        ("needs tensors with elements", lambda: sum_relu(*relu_inputs(0, 2, 3, 4), impl="blocked")),
    ):
        with pytest.raises((ValueError, RuntimeError), match=message) as error:
            run()
        assert "\n" not in str(error.value)


def largest_allocation(run):
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        run()
    return max(event.cpu_memory_usage for event in seen.events() if event.name == "[memory]")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("nl", {"form": form}) for form in ("embedded_gaussian", "gaussian", "dot_product", "concatenation")),
        ("nl", {"width": 1}),
        ("danet_position", {}),
        ("danet_position", {"variant": "paper"}),
        ("sra", {"reduction": 1, "heads": 2}),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_no_map_of_pairs_is_stored_in_training_or_for_the_rows_of_a_capture(name, options, dtype):
    module = build(BY_NAME[name], options).to(dtype).train()
    x = torch.randn(1, 32, 48, 50).to(dtype).requires_grad_()
    pairs = (48 * 50) ** 2 * 2

    def step():
        with foveate.capture(module, queries=[(3, 4), 0]) as seen:
            module(x).sum().backward()
        assert seen.maps[""]["affinity"].shape == (1, 2, 48 * 50)

    step()
    assert largest_allocation(step) < pairs / 8


@pytest.mark.parametrize("name", ["nl", "danet_position"])
def test_training_steps_repeat_bit_for_bit(name):
    module = build(BY_NAME[name], {}).train()
    x = torch.randn(2, 32, 30, 31)
    found = []
    for _ in range(2):
        twin, given = copy.deepcopy(module), x.clone().requires_grad_()
        twin(given).square().sum().backward()
        found.append([given.grad, *(p.grad for p in twin.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
