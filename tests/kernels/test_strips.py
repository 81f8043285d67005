"""Strips of channels-last maps: more channels and columns than one step takes, and empty batches."""

import math

import pytest
import torch
from kernel_cases import CASES
from test_kernels import assert_no_worse, outputs_and_gradients, skip_unless
from torch.utils._python_dispatch import TorchDispatchMode

from foveate.kernels import gate_strips, pool_strips

STRIPS = [case for case in CASES if "strips" in case.name]


def laid_last(x):
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


@pytest.mark.parametrize("case", STRIPS, ids=lambda case: case.name)
@pytest.mark.parametrize("shape", [(1, 1030, 5, 40), (9, 520, 2, 33), (1, 200, 3, 130), (17, 3, 70, 2)], ids=str)
def test_more_channels_and_columns_than_one_step_takes(case, shape):
    exact_inputs = [t.float().double() for t in case.inputs(shape)]
    inputs = [t.float() for t in exact_inputs]
    inputs[0] = laid_last(inputs[0])
    skip_unless("cpu", inputs[0])
    cotangents = [torch.randn_like(y).float().double() for y in case.run("reference", *exact_inputs)]
    quick, plain = (outputs_and_gradients(case, form, inputs, cotangents) for form in ("cpu", "reference"))
    exact = outputs_and_gradients(case, "reference", exact_inputs, cotangents)
    for got, other, true in zip(quick, plain, exact, strict=True):
        assert_no_worse(got, other, true.detach(), terms=math.prod(shape[1:]))


class Names(TorchDispatchMode):
    """The operators that are called, by name."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


def test_a_form_requested_by_name_runs_on_channels_last_maps():
    x = laid_last(torch.randn(2, 6, 7, 5)).requires_grad_()
    skip_unless("cpu", x)
    with Names() as names:
        rows, columns = pool_strips(x, impl="cpu")
        y = gate_strips(x, rows, columns, impl="cpu")
        y.sum().backward()
    assert y.stride() == x.grad.stride() == x.stride()
    ours = [name for name in names.seen if name.startswith("foveate::")]
    assert {"foveate::strip_pools", "foveate::strip_scale", "foveate::strip_gate_gradients"} <= {*ours}


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_a_batch_of_none_has_strips_of_none(last):
    x = torch.randn(0, 4, 5, 6)
    x = (laid_last(x) if last else x).requires_grad_()
    rows, columns = pool_strips(x)
    assert (rows.shape, columns.shape) == ((0, 4, 5), (0, 4, 6))
    y = gate_strips(x, rows, columns)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad.shape == x.shape
    with pytest.raises(RuntimeError, match=r"needs a tensor with elements, got shape \(0, 4, 5, 6\)"):
        pool_strips(x, impl="cpu")
