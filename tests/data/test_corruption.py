"""Corrupted images: the same for the same seed, whatever thread asks, and nothing else is touched."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from foveate.data import open_data
from foveate.data.corruption import Corrupted, corrupted
from foveate.robustness import OF_IMAGES
from foveate.spec import DataSpec

pytest.importorskip("imagecorruptions")
IMAGE = np.random.default_rng(0).integers(0, 255, (33, 47, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_the_same_seed_gives_the_same_pixels_and_leaves_the_generator_alone(name):
    state = np.random.get_state()[1].copy()
    first = corrupted(IMAGE, name, 3, 7)
    assert np.array_equal(first, corrupted(IMAGE, name, 3, 7))
    assert first.shape == IMAGE.shape
    assert not np.array_equal(first, IMAGE)
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("name", ["impulse_noise", "glass_blur", "snow"])
def test_another_seed_gives_other_pixels(name):
    assert not np.array_equal(corrupted(IMAGE, name, 3, 7), corrupted(IMAGE, name, 3, 8))


def test_threads_get_what_one_gets():
    alone = [corrupted(IMAGE, "gaussian_noise", 3, seed) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda seed: corrupted(IMAGE, "gaussian_noise", 3, seed), range(16)))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_a_split_is_corrupted_item_by_item_before_it_is_normalised():
    split = open_data(DataSpec(train_items=20, test_items=20)).test
    fog = Corrupted(split, "fog", 3, seed=0)
    whole, part = fog.batch([0, 1, 2], None), fog.batch([2], None)
    assert torch.equal(whole.inputs[2], part.inputs[0])
    assert torch.equal(whole.targets["label"], split.batch([0, 1, 2], None).targets["label"])
    clean = split.levels.pixels(split.batch([0], None).inputs)
    assert np.array_equal(clean[0, :, :, 0], split.inputs[0, 0])
    assert torch.allclose(split.levels.normalised(clean), split.batch([0], None).inputs)
