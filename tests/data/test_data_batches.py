"""What the training loop relies on, for every kind of split: batches are pure functions of (indices, augment)."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.data import open_data, scattered_digits
from foveate.data.chance import uniforms
from foveate.data.pixels import Pixels
from foveate.data.subset import choose, hold_out, positions
from foveate.spec import Data


@pytest.fixture(scope="module", params=["digits", "resized", "photos"])
def split(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOVEATE_CACHE", str(tmp_path_factory.mktemp("cache")))
        if request.param == "digits":
            return open_data(Data(train_images=64, test_images=10)).train
        if request.param == "resized":
            images = np.random.default_rng(0).integers(0, 256, (64, 3, 20, 24), dtype=np.uint8)
            options = {"mean": (0.5,) * 3, "std": (0.2,) * 3, "shift": 3, "edge": "constant", "flip": True}
            return Pixels(images, np.arange(64) % 4, size=(30, 30), **options)
        root = tmp_path_factory.mktemp("photos")
        made = scattered_digits(80, image_size=64)
        for index, (image, label) in enumerate(zip(made["images"], made["labels"], strict=True)):
            (root / str(label)).mkdir(exist_ok=True)
            Image.fromarray(image).resize((90 + index, 70)).save(root / str(label) / f"{index}.jpg")
        return open_data(Data(source=str(root), image_size=48)).train


def test_pure(split):
    x, y = split.batch(range(40), (3, 7))
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert y.dtype == torch.int64
    assert torch.equal(y, split.labels[:40])
    order = np.random.default_rng(0).permutation(40)
    torch.manual_seed(99)
    again, labels = split.batch(order.tolist(), (3, 7))
    assert torch.equal(again, x[order]), "an image depends on its place in the batch or on the global generator"
    assert torch.equal(labels, y[order])
    alone = torch.cat([split.batch([index], (3, 7))[0] for index in range(40)])
    assert torch.equal(alone, x), "an image depends on its neighbours in the batch"
    for other in ((3, 8), (4, 7)):
        changed = (split.batch(range(40), other)[0] != x).flatten(1).any(1)
        assert changed.float().mean() > 0.8, "another epoch or seed gives the same augmentation"


def test_two_copies_of_an_index_agree_and_evaluation_is_fixed(split):
    x, _ = split.batch([5, 6, 5], (0, 0))
    assert torch.equal(x[0], x[2])
    plain = split.batch(range(20), None)[0]
    assert torch.equal(plain, split.batch(range(20), None)[0])
    assert not torch.equal(plain, split.batch(range(20), (0, 0))[0])


def test_leaves_the_global_generators_alone(split):
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
    split.batch(range(10), (0, 0))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], legacy)


def test_from_many_threads_at_once(split):
    asked = [([*range(start, start + 8)], (1, epoch)) for epoch in range(6) for start in range(0, 48, 8)]
    expected = [split.batch(*ask)[0] for ask in asked]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda ask: split.batch(*ask)[0], asked))
    assert all(torch.equal(one, other) for one, other in zip(expected, got, strict=True))


def test_a_batch_is_nobodys_but_the_callers(split):
    before = split.batch([0, 1], None)[0].clone()
    x, y = split.batch([0, 1], None)
    x.zero_()
    y.fill_(-1)
    after, labels = split.batch([0, 1], None)
    assert torch.equal(after, before)
    assert labels.min() >= 0


@pytest.mark.parametrize("index", [-1, 64])
def test_an_index_it_does_not_have(split, index):
    with pytest.raises(IndexError, match=f"0 to {len(split) - 1}"):
        split.batch([0, index], None)


def test_augmentation_moves_and_mirrors_and_does_nothing_else():
    image = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8) + 1
    options = {"mean": (0.0,), "std": (1 / 255,), "shift": 2, "flip": True}
    split = Pixels(np.repeat(image, 1000, 0), np.arange(1000) % 2, size=(8, 8), edge="constant", **options)
    x, _ = split.batch(range(1000), (0, 0))
    padded = np.pad(image[0, 0], 2)
    possible = {}
    for down in range(5):
        for right in range(5):
            window = padded[down : down + 8, right : right + 8]
            possible[window.tobytes()] = (down, right, False)
            possible[window[:, ::-1].tobytes()] = (down, right, True)
    seen = [possible[moved.tobytes()] for moved in x.round().to(torch.uint8).numpy()[:, 0]]
    assert set(seen) == set(possible.values())
    assert 400 < sum(mirrored for *_, mirrored in seen) < 600


def test_chance_is_even_and_independent():
    draws = uniforms((0, 0), np.arange(20000), 3)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert np.histogram(draws, 10, (0, 1))[0] == pytest.approx(6000, rel=0.05)
    columns = [*draws.T, uniforms((0, 1), np.arange(20000), 1)[:, 0], uniforms((1, 0), np.arange(20000), 1)[:, 0]]
    apart = np.corrcoef(columns) - np.eye(5)
    assert np.abs(apart).max() < 0.03
    assert np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1] == pytest.approx(0, abs=0.03)


def test_choices_keep_every_class_in_its_share():
    labels = np.repeat([0, 1, 2], [600, 300, 3])
    keys = positions(len(labels))
    assert np.bincount(labels[choose(labels, keys, 90, wanted="n")]).tolist() == pytest.approx([59, 30, 1], abs=1)
    assert np.bincount(labels[choose(labels, keys, 3, wanted="n")]).tolist() == [1, 1, 1]
    small, large = (set(choose(labels, keys, count, wanted="n")) for count in (50, 400))
    assert small < large
    for count in (2, 904):
        with pytest.raises(ValueError, match=r"wanted n=\d+; the data allow 3 \(one a class\) to 903"):
            choose(labels, keys, count, wanted="n")
    train, test = hold_out(labels, keys, 0.2)
    assert np.bincount(labels[test]).tolist() == [120, 60, 1]
    assert sorted([*train, *test]) == list(range(903))
    for fraction in (0.01, 0.99):
        assert all(np.bincount(labels[part]).min() >= 1 for part in hold_out(labels, keys, fraction))
