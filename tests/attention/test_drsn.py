"""Soft thresholds: what they do to a map, and where the two mechanisms part."""

import pytest
import torch

import foveate
from foveate.attention import soft_threshold
from foveate.attention.drsn import BiasedBatchNorm


def test_soft_threshold_zeroes_the_small_and_shrinks_the_rest():
    x = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
    assert soft_threshold(x, torch.tensor(1.0)).tolist() == [-2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0]
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    tau = torch.rand(2, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(soft_threshold, (x, tau))


def test_shared_thresholds_are_one_a_sample_and_wise_ones_one_a_channel():
    x = torch.randn(4, 8, 6, 5)
    for name, shape in (("drsn_cs", (4, 1)), ("drsn_cw", (4, 8))):
        module = foveate.create_attention(name, 8).eval()
        with foveate.capture(module) as seen:
            y = module(x)
        tau = seen.maps[""]["threshold"]
        assert tau.shape == shape
        torch.testing.assert_close(y, soft_threshold(x, tau[:, :, None, None]))
        mean = x.abs().mean((2, 3))
        assert (tau <= (mean if shape[1] > 1 else mean.mean(1, keepdim=True))).all()


@pytest.mark.parametrize(
    ("options", "dims", "width"),
    [({}, 2, 4), ({}, 1, 16), ({"variant": "paper"}, 2, 16), ({"variant": "paper", "reduction": 2}, 2, 8)],
)
def test_the_hidden_width_follows_the_released_files(options, dims, width):
    module = foveate.create_attention("drsn_cw", 16, spatial_dims=dims, **options)
    assert module.gate.reduce.out_features == width


def test_the_batch_norm_differs_from_torchs_in_the_moving_variance_alone():
    ours, torchs = BiasedBatchNorm(3), torch.nn.BatchNorm1d(3)
    x = torch.randn(5, 3, 2)
    for _ in range(2):
        assert torch.equal(ours(x), torchs(x))
    torch.testing.assert_close(ours.running_mean, torchs.running_mean)
    decayed, count = 0.9**2, 10
    torch.testing.assert_close(ours.running_var - decayed, (torchs.running_var - decayed) * (count - 1) / count)
    assert ours.num_batches_tracked == 2
    assert torch.equal(ours.eval()(x), torch.nn.functional.batch_norm(x, ours.running_mean, ours.running_var))


def test_training_on_one_sample_is_refused_by_the_batch_norm():
    module = foveate.create_attention("drsn_cw", 8).train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        module(torch.randn(1, 8, 6, 6))
