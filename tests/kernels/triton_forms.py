"""What test_triton.py runs in a process of its own: the Triton forms on a GPU, or in the interpreter of Triton."""

import math
import sys

import pytest
import torch
from kernel_cases import CASES
from test_kernels import assert_no_worse, outputs_and_gradients

from foveate.kernels import gate_map

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# One tile, one number, planes of one position, several tiles along positions, several along channels. Tiny, for the
# interpreter is slow.
SHAPES = [(2, 6, 7, 5), (1, 1, 1, 1), (2, 4, 1, 1), (1, 2, 33, 32), (1, 34, 5, 4)]


WITH_A_FORM = [case for case in CASES if case.name != "conv_to_one"]
each_case = pytest.mark.parametrize("case", WITH_A_FORM, ids=lambda case: case.name)


def settings():
    """(case, shape, dtype, last), without those that run the same code as another: the interpreter is slow."""
    for case in WITH_A_FORM:
        of_groups = case.inputs(SHAPES[0])[0].shape[1] > SHAPES[0][1]  # groups of channels take no channels-last map
        for shape in SHAPES:
            yield case, shape, torch.float32, False
            if not of_groups and shape not in SHAPES[1:3]:
                yield case, shape, torch.float32, True
        yield case, SHAPES[0], torch.bfloat16, False


def test_only_the_convolution_has_no_triton_form():
    (case,) = (case for case in CASES if case not in WITH_A_FORM)
    with pytest.raises(RuntimeError, match="it has no Triton form"):
        case.run("triton", *(t.to(DEVICE, torch.float32) for t in case.inputs(SHAPES[0])))


@pytest.mark.parametrize(
    ("case", "shape", "dtype", "last"), list(settings()), ids=lambda value: getattr(value, "name", str(value))
)
def test_a_triton_form_is_no_further_from_float64_than_twice_plain_torch(case, shape, dtype, last):
    exact_inputs = [t.to(DEVICE, dtype).double() for t in case.inputs(shape)]
    inputs = [t.to(dtype) for t in exact_inputs]
    if last:
        inputs[0] = inputs[0].movedim(1, -1).contiguous().movedim(-1, 1)
    cotangents = [torch.randn_like(y).to(dtype).double() for y in case.run("reference", *exact_inputs)]
    quick, plain = (outputs_and_gradients(case, form, inputs, cotangents) for form in ("triton", "reference"))
    exact = outputs_and_gradients(case, "reference", exact_inputs, cotangents)
    for got, other, true in zip(quick, plain, exact, strict=True):
        assert got.dtype == dtype
        assert_no_worse(got, other, true.detach(), terms=math.prod(shape[1:]))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # numpy's, which the interpreter runs on
@each_case
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_ties_and_what_is_not_finite_are_as_in_the_reference(case, value):
    inputs = [t.to(DEVICE, torch.float32) for t in case.inputs((2, 6, 3, 4))]
    inputs[0] = inputs[0].round()
    inputs[0][0, 1, 2, 1] = value
    cotangents = [torch.ones_like(y) for y in case.run("reference", *inputs)]
    quick, plain = (outputs_and_gradients(case, form, inputs, cotangents) for form in ("triton", "reference"))
    outputs = len(cotangents)
    for got, wanted in zip(quick[:outputs], plain[:outputs], strict=True):
        torch.testing.assert_close(got, wanted, equal_nan=True, rtol=1e-4, atol=1e-4)
    # What the first sample holds stays out of the others' gradients.
    torch.testing.assert_close(quick[outputs][1], plain[outputs][1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "module", "limit"),
    [
        ("attention_pool", "_tiles", "PROGRAMS"),
        ("gate_map", "_tiles", "PROGRAMS"),
        ("sge_gate", "gates.sge_gate", "KEPT"),
    ],
)
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_how_much_a_program_takes_at_a_time_makes_no_difference(name, module, limit, last, monkeypatch):
    monkeypatch.setattr(sys.modules[f"foveate.kernels.{module}"], limit, 4)
    (case,) = (case for case in CASES if case.name == name)
    inputs = [t.to(DEVICE, torch.float32) for t in case.inputs((2, 66, 25, 40))]
    if last:
        inputs[0] = inputs[0].movedim(1, -1).contiguous().movedim(-1, 1)
    cotangents = [torch.randn_like(y) for y in case.run("reference", *inputs)]
    quick, plain = (outputs_and_gradients(case, form, inputs, cotangents) for form in ("triton", "reference"))
    for got, wanted in zip(quick, plain, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lay", ["sliced", "expanded", "overlapping"])
def test_a_triton_form_takes_maps_of_any_strides(lay):
    base = torch.randn(2, 6, 8, 9, device=DEVICE)
    x = {
        "sliced": lambda: base[:, ::2, 1:, ::3],
        "expanded": lambda: base[:1, :1].expand(2, 3, 8, 9),
        "overlapping": lambda: base.as_strided((2, 3, 4, 5), (5, 3, 2, 1)),
    }[lay]().requires_grad_()
    gate = torch.rand(2, 3, device=DEVICE)
    y, wanted = (gate_map(x, channel=gate, impl=impl) for impl in ("triton", "reference"))
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(one.square().sum(), x)[0] for one in (y, wanted)))


def test_triton_says_why_it_cannot_run_here():
    x, gate = torch.ones(1, 2, 3, 3, device=DEVICE), torch.ones(1, 2, device=DEVICE)
    with pytest.raises(RuntimeError, match=r"float32, which torch.float64 would not expect"):
        gate_map(x.double(), channel=gate.double(), impl="triton")
    with pytest.raises(RuntimeError, match=r"it needs a tensor with elements, got shape \(0, 2, 3, 3\)"):
        gate_map(x[:0], channel=gate[:0], impl="triton")
