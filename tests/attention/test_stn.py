"""The affine sampler against torch's own, its coordinates by hand, and the transformer's start."""

import math

import pytest
import torch
import torch.nn.functional as F

import foveate
from foveate.attention.stn import affine_sample

EITHER = pytest.mark.parametrize("align_corners", [False, True])


def theta_for(batch: int, dims: int) -> torch.Tensor:
    return torch.eye(dims, dims + 1, dtype=torch.float64) + 0.3 * torch.randn(batch, dims, dims + 1).double()


@EITHER
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("size", [None, (4, 9), (11, 3)])
@pytest.mark.parametrize("dims", [2, 3])
def test_equals_torchs_grid_and_sampler(dims, size, padding_mode, align_corners):
    x = torch.randn(2, 3, *(7, 5, 6)[:dims], dtype=torch.float64)
    theta = theta_for(2, dims)
    size = size and (*size, 4)[:dims]
    grid = F.affine_grid(theta, [2, 3, *(size or x.shape[2:])], align_corners=align_corners)
    wanted = F.grid_sample(x, grid, "bilinear", padding_mode, align_corners)
    torch.testing.assert_close(affine_sample(x, theta, size, align_corners, padding_mode), wanted)


@EITHER
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_gradients_to_the_map_and_to_theta(dims, align_corners):
    x = torch.randn(2, 2, *(5, 4, 3)[:dims], dtype=torch.float64, requires_grad=True)
    theta = theta_for(2, dims).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, theta: affine_sample(x, theta, None, align_corners), (x, theta))


@pytest.mark.parametrize(("align_corners", "pixel"), [(False, 2 / 5), (True, 2 / 4)])
def test_a_signal_shifted_by_one_position(align_corners, pixel):
    x = torch.arange(1.0, 6.0).reshape(1, 1, 5)
    y = affine_sample(x, torch.tensor([[[1.0, pixel]]]), align_corners=align_corners)
    torch.testing.assert_close(y.flatten(), torch.tensor([2.0, 3.0, 4.0, 5.0, 0.0]))


@EITHER
def test_x_is_the_last_axis_and_comes_first(align_corners):
    x = torch.randn(1, 1, 4, 6)
    mirror = torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]])
    torch.testing.assert_close(affine_sample(x, mirror, align_corners=align_corners), x.flip(3))


@EITHER
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
def test_starts_as_the_identity(dims, padding_mode, align_corners):
    options = {"padding_mode": padding_mode, "align_corners": align_corners}
    module = foveate.create_attention("stn", 3, spatial_dims=dims, **options)
    x = torch.randn(2, 3, *(7, 5, 6)[:dims])
    assert type(module).starts_as_identity
    torch.testing.assert_close(module(x), x, rtol=0, atol=1e-6)


@EITHER
@pytest.mark.parametrize("side", [28, 57, 224])
def test_the_identity_is_exact_on_large_maps_too_and_can_be_left(side, align_corners):
    module = foveate.create_attention("stn", 3, align_corners=align_corners)
    x = torch.randn(2, 3, side, side, requires_grad=True)
    y = module(x)
    torch.testing.assert_close(y, x, rtol=0, atol=1e-6)
    cotangent = torch.randn_like(x)
    (y * cotangent).sum().backward()
    bias = module.regression[-1].bias
    theta = bias.detach().view(1, 2, 3).repeat(2, 1, 1).requires_grad_()
    plain = affine_sample(x.detach(), theta, align_corners=align_corners)
    wanted = torch.autograd.grad((plain * cotangent).sum(), theta)[0].sum(0).flatten()
    torch.testing.assert_close(bias.grad, wanted)
    assert wanted.abs().min() > 0


def test_variant_decides_the_corners_and_an_option_overrides_it():
    corners = [
        foveate.create_attention("stn", 3, **options).align_corners
        for options in ({}, {"variant": "paper"}, {"variant": "paper", "align_corners": False})
    ]
    assert corners == [False, True, False]


def test_another_output_size():
    module = foveate.create_attention("stn", 3, size=(5, 11))
    x = torch.randn(2, 3, 10, 22)
    with foveate.capture(module) as seen:
        torch.testing.assert_close(module(x), F.interpolate(x, (5, 11), mode="bilinear"))
    assert seen.maps[""]["grid"].shape == (2, 5, 11, 2)


def test_the_tutorials_network_has_its_parameters_and_its_smallest_map():
    module = foveate.create_attention("stn", 1, conv_padding="valid")
    assert sum(p.numel() for p in module.parameters()) == 5520
    assert module(torch.randn(2, 1, 18, 18)).shape == (2, 1, 18, 18)
    with pytest.raises(ValueError, match=r"at least 18 positions .* got a map of \(17, 28\)"):
        module(torch.randn(2, 1, 17, 28))


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_theta_that_is_not_finite_shows(broken, dims, padding_mode):
    theta = torch.eye(dims, dims + 1).repeat(2, 1, 1)
    theta[0, 0, 0] = broken
    y = affine_sample(torch.randn(2, 1, *(4,) * dims), theta, padding_mode=padding_mode)
    assert y[0].isnan().all()
    assert y[1].isfinite().all()


def test_bad_input_is_refused_in_one_line():
    x = torch.randn(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"theta must be \(2, 2, 3\) .* got \(2, 3, 2\)"):
        affine_sample(x, torch.zeros(2, 3, 2))
    with pytest.raises(ValueError, match="size must have 2 numbers"):
        affine_sample(x, torch.zeros(2, 2, 3), size=(4,))
    with pytest.raises(ValueError, match="padding_mode must be one of 'zeros', 'border', 'reflection'; got 'zero'"):
        affine_sample(x, torch.zeros(2, 2, 3), padding_mode="zero")
    for options in ({"size": (4,)}, {"widths": (8,)}, {"kernel_sizes": (4, 3)}, {"conv_padding": "full"}):
        with pytest.raises(ValueError, match="stn: .*; got"):
            foveate.create_attention("stn", 3, **options)
