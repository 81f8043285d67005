"""The C form of every primitive against its reference in float64, forward and every gradient; none is named here."""

import math
import os
import shutil
import subprocess
import sys

import pytest
import torch
from kernel_cases import CASES

from foveate.kernels import gate_map, why_not

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
SHAPES = [(2, 6, 7, 5), (1, 1, 1, 1), (3, 4, 1, 1), (2, 70, 40, 61), (1, 9, 1100), (2, 5, 3, 4, 5)]


def skip_unless(impl, x):
    if reason := why_not(impl, x):
        pytest.skip(reason)


def outputs_and_gradients(case, impl, inputs, cotangents):
    inputs = [t.detach().clone().requires_grad_() for t in inputs]
    outputs = case.run(impl, *inputs)
    given = [c.to(y.dtype) for c, y in zip(cotangents, outputs, strict=True)]
    return [*outputs, *torch.autograd.grad(outputs, inputs, given)]


def assert_no_worse(actual, plain, exact, terms):
    """Largest error ≤ twice that of plain torch in the same dtype + the rounding of a sum of that many terms."""
    assert actual.shape == exact.shape
    error, budget = ((t.detach().double() - exact).abs().max().item() for t in (actual, plain))
    size = exact.abs().max().item()
    if actual.dtype == torch.float64:
        assert error <= 1e-12 * max(size, 1.0)
        return
    eps, eps32 = torch.finfo(actual.dtype).eps, torch.finfo(torch.float32).eps
    limit = 2 * budget + (eps + eps32 * terms**0.5) * size + 16 * eps32  # the last: sums that cancel to 0 in theory
    assert error <= limit, f"error {error:.2e} > {limit:.2e} (plain torch makes {budget:.2e})"


@each_case
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_the_c_form_is_no_further_from_float64_than_twice_plain_torch(case, shape, dtype, last):
    exact_inputs = [t.to(dtype).double() for t in case.inputs(shape)]
    inputs = [t.to(dtype) for t in exact_inputs]
    if last:
        inputs[0] = inputs[0].movedim(1, -1).contiguous().movedim(-1, 1)
    skip_unless("cpu", inputs[0])
    cotangents = [torch.randn_like(y).to(dtype).double() for y in case.run("reference", *exact_inputs)]
    quick, plain = (outputs_and_gradients(case, form, inputs, cotangents) for form in ("cpu", "reference"))
    exact = outputs_and_gradients(case, "reference", exact_inputs, cotangents)
    for got, other, true in zip(quick, plain, exact, strict=True):
        assert got.dtype == dtype
        assert_no_worse(got, other, true.detach(), terms=math.prod(shape[1:]))


def test_a_form_that_cannot_run_says_why():
    x, gate = torch.ones(1, 2, 3, 3), torch.ones(1, 2)
    with pytest.raises(ValueError, match="impl must be one of 'reference', 'cpu', 'triton' or None; got 'cuda'"):
        gate_map(x, channel=gate, impl="cuda")
    with pytest.raises(RuntimeError, match=r"gate_map\(impl='cpu'\): cpu works on float32, bfloat16 and float64"):
        gate_map(x.half(), channel=gate.half(), impl="cpu")
    with pytest.raises(ValueError, match=r"gate_map: channel must be \(1, 2\); got \(2, 1\)"):
        gate_map(x, channel=gate.T)
    with pytest.raises(ValueError, match=r"gate_map: residual must be \(1, 2, 3, 3\); got \(1, 2, 3\)"):
        gate_map(x, residual=x[..., 0])
    with pytest.raises(ValueError, match="gate_map: activation must be 'relu' or None; got 'gelu'"):
        gate_map(x, activation="gelu")


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("clang") is None, reason="no C compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_the_c_form_compiles_where_there_is_a_compiler(dtype):
    assert why_not("cpu", torch.ones(1, dtype=dtype)) is None


def test_everything_works_without_native_code():
    code = (
        "import torch, foveate; from foveate.kernels import gate_map\n"
        "foveate.create_attention('se', 32)(torch.ones(2, 32, 5, 5, requires_grad=True)).sum().backward()\n"
        "try: gate_map(torch.ones(1, 2, 3), channel=torch.ones(1, 2), impl='cpu')\n"
        "except RuntimeError as error: print(error)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FOVEATE_NATIVE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "gate_map(impl='cpu'): FOVEATE_NATIVE=0 switches native code off\n"
