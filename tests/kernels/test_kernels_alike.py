"""Properties of every primitive beside its numbers: views, NaN, ties, second derivatives, threads, tools."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from kernel_cases import CASES

import foveate
from foveate.kernels import accumulate_gradient, channel_pool, conv_to_one, global_pool, sge_gate, why_not

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
SHAPE = (2, 6, 7, 5)


@pytest.fixture(autouse=True)
def _native():
    if reason := why_not("cpu", torch.ones(1, 1, 1)):
        pytest.skip(reason)


def inputs_of(case):
    return [t.float() for t in case.inputs(SHAPE)]


@each_case
def test_maps_that_are_not_contiguous_give_the_same(case):
    inputs = inputs_of(case)
    wide = torch.randn(*inputs[0].shape[:-1], 2 * inputs[0].shape[-1])
    views = {
        "strided": wide[..., ::2].copy_(inputs[0]),
        "transposed": inputs[0].transpose(-1, -2).contiguous().transpose(-1, -2),
    }
    expected = case.run("reference", *inputs)
    for name, view in views.items():
        for got, wanted in zip(case.run("cpu", view, *inputs[1:]), expected, strict=True):
            torch.testing.assert_close(got, wanted, msg=lambda text, name=name: f"{name}: {text}")
    expanded = inputs[0][:1].expand_as(inputs[0])
    for got, wanted in zip(
        case.run("cpu", expanded, *inputs[1:]), case.run("reference", expanded, *inputs[1:]), strict=True
    ):
        torch.testing.assert_close(got, wanted)


@each_case
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_what_is_not_finite_stays_so_in_its_own_sample(case, bad):
    inputs = inputs_of(case)
    inputs[0][0, 0, 0, 1] = bad
    for got, wanted in zip(case.run("cpu", *inputs), case.run("reference", *inputs), strict=True):
        assert torch.equal(got.isnan(), wanted.isnan())
        torch.testing.assert_close(got, wanted, equal_nan=True)


@pytest.mark.parametrize("largest", [150, 1022, 20_000])
def test_sge_in_float16_has_the_values_and_gradients_of_float64(largest):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 6, 7, 5, generator=generator) * largest
    weights = [torch.randn(2, generator=generator) for _ in "ab"]
    dy = torch.randn(x.shape, generator=generator) * 30 / largest  # so that the gradient of the weights is below 65504
    inputs = [t.half().requires_grad_() for t in (x, *weights)]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    y, wanted = sge_gate(*inputs), sge_gate(*exact)
    got = [y, *torch.autograd.grad(y, inputs, dy.half())]
    for one, right in zip(got, [wanted, *torch.autograd.grad(wanted, exact, dy.half().double())], strict=True):
        assert one.dtype == torch.float16
        assert (one.double() - right).abs().max() <= 1e-3 * right.abs().max()


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_the_first_of_equal_values_takes_the_gradient(last):
    x = torch.randint(0, 3, (2, 5, 6, 7)).float()
    x = (x.contiguous(memory_format=torch.channels_last) if last else x).requires_grad_()
    grads = []
    for impl in ("cpu", "reference"):
        largest = global_pool(x, ("max",), impl=impl)[0].sum() + channel_pool(x, impl=impl)[0].square().sum()
        grads.append(torch.autograd.grad(largest, x)[0])
    assert torch.equal(*grads)


@each_case
def test_derivatives_of_derivatives(case):
    inputs = [t.requires_grad_() for t in case.inputs(SHAPE)]
    second = []
    for impl in ("cpu", "reference"):
        y = sum(out.square().sum() for out in case.run(impl, *inputs))
        first = torch.autograd.grad(y, inputs, create_graph=True)
        second.append(torch.autograd.grad(sum(g.square().sum() for g in first), inputs))
    size = max(g.abs().max().item() for g in second[1])
    for got, wanted in zip(*second, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-7, atol=1e-11 * size)


def test_a_gradient_computed_in_parts_is_the_same():
    x, gate = torch.randn(SHAPE, requires_grad=True), torch.rand(SHAPE[:2], requires_grad=True)
    accumulated = accumulate_gradient(x)
    y = foveate.kernels.gate_map(accumulated, channel=gate * global_pool(accumulated, ("mean",))[0])
    whole = torch.autograd.grad(y.sum(), (x, gate), retain_graph=True)
    (alone,) = torch.autograd.grad(y.sum(), gate, retain_graph=True)
    again = torch.autograd.grad(y.sum(), (x, gate))
    assert torch.equal(alone, whole[1])
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))


def test_the_operators_pass_torchs_own_checks():
    x, gate = torch.randn(SHAPE), torch.rand(SHAPE[:2])
    torch.library.opcheck(torch.ops.foveate.gate_map.default, (x, gate, None, None))
    torch.library.opcheck(torch.ops.foveate.channel_pool.default, (x, gate))
    torch.library.opcheck(torch.ops.foveate.conv_to_one.default, (x[:, :2].contiguous(), torch.rand(1, 2, 3, 3)))
    torch.library.opcheck(torch.ops.foveate.gate_map.default, (x, gate, None, None, x, True))
    torch.library.opcheck(torch.ops.foveate.mix_branches.default, ([x, x], torch.rand(2, *SHAPE[:2])))
    torch.library.opcheck(torch.ops.foveate.branch_means.default, ([x, x],))
    torch.library.opcheck(torch.ops.foveate.global_pool.default, (x, ["mean"]), test_utils=("test_schema",))


def test_the_result_does_not_depend_on_the_number_of_threads():
    x, before = torch.randn(3, 70, 30, 31, requires_grad=True), torch.get_num_threads()
    module = foveate.create_attention("cbam", 70).eval()
    seen = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = module(x)
            seen.append((y, *torch.autograd.grad(y.square().sum(), x)))
    finally:
        torch.set_num_threads(before)
    for got in seen[1:]:
        for a, b in zip(got, seen[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_a_convolution_with_hooks_is_run_as_a_module():
    module, seen = foveate.create_attention("cbam", 32), []
    module.spatial_gate.conv.register_forward_hook(lambda *_: seen.append(1))
    module.eval()(torch.randn(2, 32, 5, 5))
    assert seen == [1]
    with pytest.raises(ValueError, match="conv_to_one: wanted x"):
        conv_to_one(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 2, 2))


CODE = "import torch; from foveate.kernels import why_not; print(why_not('cpu', torch.ones(1, 2, 3)))"


def ask(**environment):
    ran = subprocess.run(
        [sys.executable, "-c", CODE], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


@pytest.mark.slow
def test_two_processes_may_compile_at_once_and_without_a_writable_cache_the_temporary_folder_serves(tmp_path):
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(ask, FOVEATE_CACHE=str(tmp_path / "cache")) for _ in range(2)]
    assert [a.result() for a in answers] == ["None", "None"]
    assert [path.suffix for path in (tmp_path / "cache" / "native").iterdir()] == [".so"]
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    assert ask(FOVEATE_CACHE=str(tmp_path / "file"), TMPDIR=str(tmp_path / "temporary")) == "None"
    assert list((tmp_path / "temporary").glob("foveate-native-*/*.so"))


def test_without_a_compiler_it_says_so(tmp_path):
    assert ask(PATH=str(tmp_path)) == "no C compiler (cc, gcc or clang) was found"
