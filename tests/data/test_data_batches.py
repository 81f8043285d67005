"""What the training loop relies on, for every kind of split: batches are pure functions of (items, augment)."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.data import InMemory, Target, open_data, scattered_digits
from foveate.data.augmentation import uniforms
from foveate.data.reading import read_ahead
from foveate.data.subset import choose, hold_out, positions
from foveate.spec import DataSpec

LABEL = {"label": Target("class", tuple("abcd"))}


def same(one, other):
    """Are two batches equal in inputs, every target and items?"""
    return (
        torch.equal(one.inputs, other.inputs)
        and one.targets.keys() == other.targets.keys()
        and all(torch.equal(value, other.targets[name]) for name, value in one.targets.items())
        and torch.equal(one.items, other.items)
    )


@pytest.fixture(scope="module", params=["digits", "resized", "photos", "signals", "volumes"])
def split(request, tmp_path_factory):
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOVEATE_CACHE", str(tmp_path_factory.mktemp("cache")))
        if request.param == "digits":
            return open_data(DataSpec(train_items=64, test_items=10)).train
        if request.param == "resized":
            images = rng.integers(0, 256, (64, 3, 20, 24), dtype=np.uint8)
            options = {"mean": (0.5,) * 3, "std": (0.2,) * 3, "shift": 3, "edge": "constant", "flip": True}
            return InMemory(images, {"label": labels}, LABEL, size=(30, 30), **options)
        if request.param in ("signals", "volumes"):
            shape, shift = ((64, 2, 50), 8) if request.param == "signals" else ((64, 2, 6, 8, 8), 2)
            values = rng.standard_normal(shape).astype(np.float32)
            targets = {"label": labels, "speed": rng.standard_normal((64, 3))}
            kinds = LABEL | {"speed": Target("values", tuple("xyz"), "m/s")}
            return InMemory(values, targets, kinds, mean=(0.0,) * 2, std=(1.0,) * 2, shift=shift, edge="reflect")
        root = tmp_path_factory.mktemp("photos")
        made = scattered_digits(80, image_size=64)
        for index, (image, label) in enumerate(zip(made["images"], made["labels"], strict=True)):
            (root / str(label)).mkdir(exist_ok=True)
            Image.fromarray(image).resize((90 + index, 70)).save(root / str(label) / f"{index}.jpg")
        return open_data(DataSpec(source=str(root), size=48)).train


def test_pure(split):
    batch = split.batch(range(40), (3, 7))
    x = batch.inputs
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert batch.targets["label"].dtype == torch.int64
    assert batch.items.tolist() == list(range(40))
    assert len(batch) == 40
    order = np.random.default_rng(0).permutation(40)
    torch.manual_seed(99)
    again = split.batch(order.tolist(), (3, 7))
    assert torch.equal(again.inputs, x[order]), "a sample depends on its place in the batch or on the global generator"
    assert torch.equal(again.items, torch.from_numpy(order))
    for name, target in batch.targets.items():
        assert torch.equal(again.targets[name], target[order])
    alone = torch.cat([split.batch([item], (3, 7)).inputs for item in range(40)])
    assert torch.equal(alone, x), "a sample depends on its neighbours in the batch"
    for other in ((3, 8), (4, 7)):
        changed = (split.batch(range(40), other).inputs != x).flatten(1).any(1)
        assert changed.float().mean() > 0.8, "another epoch or seed gives the same augmentation"


def test_reading_ahead_gives_the_same_batches_in_order(split):
    parts = [[0, 1, 2], [3], [5, 4], [6, 7, 8]]
    for threads in (1, 3):
        read = list(read_ahead(split, parts, (1, 2), threads=threads))
        assert len(read) == len(parts)
        assert all(same(batch, split.batch(part, (1, 2))) for batch, part in zip(read, parts, strict=True))
    assert list(read_ahead(split, [])) == []


def test_one_channel_is_repeated_for_a_network_of_three():
    split = open_data(DataSpec(train_items=10, test_items=10)).test
    (batch,) = read_ahead(split, [[0, 1]], channels=lambda channels: 3, channels_last=True)
    assert batch.inputs.shape == (2, 3, 32, 32)
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch.inputs[:, 2], split.batch([0, 1], None).inputs[:, 0])


def test_two_copies_of_an_item_agree_and_evaluation_is_fixed(split):
    x = split.batch([5, 6, 5], (0, 0)).inputs
    assert torch.equal(x[0], x[2])
    plain = split.batch(range(20), None)
    assert same(plain, split.batch(range(20), None))
    assert not torch.equal(plain.inputs, split.batch(range(20), (0, 0)).inputs)


def test_leaves_the_global_generators_alone(split):
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
    split.batch(range(10), (0, 0))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], legacy)


def test_from_many_threads_at_once(split):
    asked = [([*range(start, start + 8)], (1, epoch)) for epoch in range(6) for start in range(0, 48, 8)]
    expected = [split.batch(*ask) for ask in asked]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda ask: split.batch(*ask), asked))
    assert all(same(one, other) for one, other in zip(expected, got, strict=True))


def test_a_batch_is_nobodys_but_the_callers(split):
    before = split.batch([0, 1], None)
    kept = before.inputs.clone(), {name: target.clone() for name, target in before.targets.items()}
    before.inputs.zero_()
    for target in before.targets.values():
        target.fill_(-1)
    after = split.batch([0, 1], None)
    assert torch.equal(after.inputs, kept[0])
    assert all(torch.equal(after.targets[name], target) for name, target in kept[1].items())


@pytest.mark.parametrize("item", [-1, 64])
def test_an_item_it_does_not_have(split, item):
    with pytest.raises(IndexError, match=f"0 to {len(split) - 1}"):
        split.batch([0, item], None)


def test_augmentation_moves_and_mirrors_and_does_nothing_else():
    image = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8) + 1
    options = {"mean": (0.0,), "std": (1 / 255,), "shift": 2, "flip": True}
    split = InMemory(np.repeat(image, 1000, 0), {"label": np.arange(1000) % 2}, LABEL, edge="constant", **options)
    x = split.batch(range(1000), (0, 0)).inputs
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
    assert choose(None, keys, 5, wanted="n").tolist() == sorted(np.argsort(keys)[:5].tolist())
    with pytest.raises(ValueError, match="wanted n=904; the data allow 1 to 903"):
        choose(None, keys, 904, wanted="n")
    train, test = hold_out(labels, keys, 0.2)
    assert np.bincount(labels[test]).tolist() == [120, 60, 1]
    assert sorted([*train, *test]) == list(range(903))
    for fraction in (0.01, 0.99):
        assert all(np.bincount(labels[part]).min() >= 1 for part in hold_out(labels, keys, fraction))


def test_copies_stay_on_one_side():
    labels, keys = np.repeat([0, 1], 40), positions(80)
    groups = np.arange(80) // 2  # everything stands twice
    train, test = hold_out(labels, keys, 0.25, groups)
    assert not set(groups[train]) & set(groups[test])
    assert np.bincount(labels[test]).tolist() == [10, 10]
    large = np.array([0] * 39 + [1] + [2] * 40)  # of the first class all but one are copies of one
    with pytest.raises(ValueError, match="class 1 has 40 copies of one item, nothing to hold out for testing"):
        hold_out(labels, keys, 0.25, large)
    train, test = hold_out(labels[:40], keys[:40], 0.25, large[:40])
    assert test.tolist() == [39]
    with pytest.raises(ValueError, match="class 'b' has 1 item, too few to hold out"):
        hold_out(np.array([0, 0, 1]), positions(3), 0.5, names=("a", "b"))
