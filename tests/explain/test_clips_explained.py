"""Clips explained: arrows to where a position looks in other frames, weights of frames, films, shares on the object."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.data.clips.files import look, write_video
from foveate.explain.clips import (
    arrows,
    clip_frames,
    clip_pictures,
    frame_weights,
    object_shares,
    strongest_links,
)
from foveate.explain.files import Explainable, explain_files
from foveate.explain.own import WITHOUT_FRAME, as_grid, own_maps


class Frames(nn.Module):
    """The clip itself to a non-local block whose pairs are those of its values."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.nl = foveate.create_attention("nl", 3, spatial_dims=3, form="gaussian")
        self.scale = scale

    def forward(self, x):
        return self.nl(x * self.scale).mean((2, 3, 4))


def marked_clip():
    """A bright square that moves to the right over four dark frames, and its mask."""
    masks = torch.zeros(4, 8, 16, dtype=torch.bool)
    for frame in range(4):
        masks[frame, 2:6, 4 * frame : 4 * frame + 4] = True
    return masks.float().expand(3, -1, -1, -1).clone(), masks


def test_a_position_looks_at_the_object_where_it_is_in_the_other_frames():
    clip, masks = marked_clip()
    row = own_maps(Frames(3.0), clip[None], point=(0.1, 0.4, 0.1))["nl"]["affinity"]
    assert row.shape == (4, 8, 16)
    links = strongest_links(row, 0.1)
    assert [round(4 * link.frame - 0.5) for link in links] == [1, 2, 3], "its own frame has no arrow"
    for number, link in enumerate(links, 1):
        assert masks[number, int(link.y * 8), int(link.x * 16)]
    frames = clip_frames(clip)
    plain, drawn = np.concatenate(frames, 1), arrows(frames, row, (0.1, 0.4, 0.1))
    assert drawn.shape == plain.shape
    assert (drawn != plain).any()


@pytest.mark.parametrize(("sizes", "pooled"), [((8, 6, 6), (8, 3, 3)), ((4, 5, 9), (4, 2, 4)), ((4, 6, 8), (2, 3, 4))])
def test_keys_of_clips_are_pooled_within_their_frames_or_over_time_too(sizes, pooled):
    assert as_grid(torch.zeros(int(np.prod(pooled))), sizes).shape == pooled


def test_the_share_on_the_object_is_that_of_the_area_where_all_positions_count_alike():
    clip, masks = marked_clip()
    area = 16 / 128
    assert object_shares(Frames(0.0), clip, masks)["nl"] == pytest.approx((area, area), abs=1e-6)
    on_object, _ = object_shares(Frames(3.0), clip, masks)["nl"]
    assert on_object == pytest.approx(16 * np.e**27 / (16 * np.e**27 + 112), abs=1e-4)
    with pytest.raises(ValueError, match="wanted a mask of each of 4 frames"):
        object_shares(Frames(1.0), clip, masks[:3])


def test_weights_of_frames_are_bars_and_gates_of_clips_are_drawn_by_their_kind():
    torch.manual_seed(0)
    clip, _ = marked_clip()
    frames = clip_frames(clip)
    strip = frame_weights(frames, np.array([0.0, 0.5, 1.0, 0.25]))
    below = (strip[frames[0].shape[0] :] != 255).any(2).sum(0)
    each = strip.shape[1] // 4
    tall = [int(below[n * each : (n + 1) * each].max()) for n in range(4)]
    assert tall[0] <= 1 < tall[3] < tall[1] < tall[2]
    network = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 2))
    foveate.insert(network, "cbam_temporal", at=["0"], example=clip[None], reduction=2)
    drawn = clip_pictures(frames, own_maps(network, clip[None]))
    assert set(drawn) == {"0: spatial", "0: temporal"}, "a gate of channels belongs to no frame"
    pooled = foveate.create_attention("iastp", 3, frames="any", size=[2, 2])
    own = own_maps(pooled, clip[None], point=(0.5, 0.5))
    assert set(own[""]) == {WITHOUT_FRAME}
    assert clip_pictures(frames, own, (0.5, 0.5, 0.5))


def test_clips_are_explained_into_pictures_and_films(tmp_path):
    torch.manual_seed(0)
    clip, _ = marked_clip()
    network = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    foveate.insert(network, "cbam_temporal", at=["1"], example=clip[None], reduction=2)
    explainable = Explainable("net", network, lambda _: clip, ("a", "b", *"cdefgh"), clips=True)
    (row,) = explain_files([explainable], [Path("some/x.mp4")], Path("some"), tmp_path)
    assert {"x.png", "x.mp4", "x.npz", "explain.json"} == {file.name for file in tmp_path.iterdir()}
    assert row["networks"][0]["class"]
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["map"].shape == (4, 8, 16)
        assert {"1: spatial", "1: temporal", "1: channel"} <= set(arrays)
    assert look(tmp_path / "x.mp4", None, None).frames == 4
    assert json.loads((tmp_path / "explain.json").read_text())["images"][0]["picture"] == "x.png"


def test_a_film_has_the_pictures_in_order_and_even_sides(tmp_path):
    write_video(tmp_path / "a.mp4", [np.full((31, 45, 3), 40 * n, np.uint8) for n in range(5)], rate=5)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 5
    assert frames[0].shape == (32, 46, 3)
    assert [round(frame[:28, :40].mean() / 40) for frame in frames] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="wanted frames to write; got none"):
        write_video(tmp_path / "b.mp4", [])
