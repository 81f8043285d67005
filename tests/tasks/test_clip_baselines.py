"""Baselines of clips: what moves where, and single frames; neither sees what the other does."""

import numpy as np
import torch

from foveate.data.dataset import Batch
from foveate.tasks.clip_baselines import clip_baselines, motion_energy

ENERGY, FRAMES = "logistic regression on motion energy", "a network that sees each frame by itself"


class Made:
    """Clips of a square: its class is where it flickers, or how bright it is."""

    def __init__(self, count, by_motion, seed):
        rng = np.random.default_rng(seed)
        self.labels = torch.from_numpy(np.arange(count) % 2)
        self.clips = torch.from_numpy(rng.normal(0, 0.05, (count, 1, 6, 16, 16))).float()
        for clip, label in zip(self.clips, self.labels.tolist(), strict=True):
            if by_motion:  # one side flickers, both are as bright as often
                moving, still = (slice(0, 8), slice(8, 16)) if label else (slice(8, 16), slice(0, 8))
                level, other = rng.integers(2), rng.integers(2)
                clip[0, level::2, 4:12, moving] += 1
                clip[0, :, 4:12, still] += float(other)
            else:
                clip[:, :, 4:12, 4:12] += label

    def __len__(self):
        return len(self.labels)

    def batch(self, items, augment):
        return Batch(self.clips[items], {"label": self.labels[items]}, torch.tensor(items))


def test_motion_is_seen_by_its_energy_alone_and_brightness_by_single_frames():
    moving = clip_baselines(Made(200, True, 0), Made(100, True, 1), 2, 6)
    assert moving[ENERGY] == 1
    assert moving[FRAMES] < 0.75
    bright = clip_baselines(Made(60, False, 0), Made(60, False, 1), 2, 6)
    assert bright[FRAMES] == 1
    assert clip_baselines(Made(60, False, 0), Made(60, False, 1), 2, 6) == bright


def test_motion_energy_is_the_mean_change_between_frames():
    clip = torch.zeros(1, 2, 3, 32, 32)
    clip[0, :, 1, :16] = 2.0
    energy = motion_energy(clip, 4)[0]
    assert energy.tolist() == [[2.0] * 4] * 2 + [[0.0] * 4] * 2
