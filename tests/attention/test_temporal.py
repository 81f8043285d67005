"""Frames: pooling and reweighting agree, frames do not see each other beyond the kernel, gates can be left out."""

import pytest
import torch

import foveate


@pytest.mark.parametrize("shape", [(2, 16, 5), (2, 16, 5, 4, 3)])
def test_reweighting_by_softmax_then_a_mean_is_pooling(shape):
    dims, x = len(shape) - 2, torch.randn(shape)
    reweigh = foveate.create_attention("temporal", 16, spatial_dims=dims, mode="softmax")
    pool = foveate.create_attention("temporal", 16, spatial_dims=dims, mode="pool")
    pool.load_state_dict(reweigh.state_dict())
    with foveate.capture(pool) as seen:
        pooled = pool(x)
    assert pooled.shape == (*shape[:2], 1, *shape[3:])
    torch.testing.assert_close(pooled, reweigh(x).mean(2, keepdim=True))
    torch.testing.assert_close(seen.maps[""]["temporal"].sum(1), torch.ones(2))


@pytest.mark.parametrize(("kernel_size", "reach"), [(1, 0), (3, 1), (5, 2)])
def test_a_frame_is_scored_by_its_neighbours_alone(kernel_size, reach):
    module = foveate.create_attention("temporal", 16, spatial_dims=3, reduction=1, kernel_size=kernel_size)
    x = torch.randn(1, 16, 9, 3, 3)
    changed = x.clone()
    changed[:, :, 4] = torch.randn(16, 3, 3) * 10
    moved = ((module.gate(x) - module.gate(changed)).abs() > 1e-5).nonzero()[:, 1]
    assert moved.min() >= 4 - reach
    assert moved.max() <= 4 + reach


def test_an_image_has_no_frames():
    with pytest.raises(ValueError, match="must be 1 or 3; got 2 .an image has no time axis"):
        foveate.create_attention("temporal", 16, spatial_dims=2)


def test_clip_gates_are_cbams_with_frames_after_them():
    x = torch.randn(2, 16, 3, 5, 4)
    clips = foveate.create_attention("cbam_temporal", 16, spatial_dims=3, temporal=False, spatial=False)
    images = foveate.create_attention("cbam", 16, spatial_dims=3, spatial=False)
    images.load_state_dict(clips.state_dict())
    assert torch.equal(clips(x), images(x))

    clips = foveate.create_attention("cbam_temporal", 16, spatial_dims=3, channel=False, temporal=False).eval()
    images = foveate.create_attention("cbam", 16, channel=False).eval()
    images.load_state_dict(clips.state_dict())
    torch.testing.assert_close(clips(x), torch.stack([images(frame) for frame in x.unbind(2)], 2))

    with pytest.raises(ValueError, match="keep one of the gates"):
        foveate.create_attention("cbam_temporal", 16, spatial_dims=3, channel=False, spatial=False, temporal=False)
