"""Masks, boxes, points and maps go where the sample goes: through shifts, mirror images and another size."""

import numpy as np
import pytest
import torch

from foveate.data import IGNORED, InMemory, Target, open_data, scattered_digits
from foveate.data.augmentation import Movement
from foveate.data.in_memory import in_memory, nearest, resized
from foveate.spec import DataSpec

KINDS = {
    "mask": Target("mask", ("background", "object")),
    "box": Target("values", ("x0", "y0", "x1", "y1"), "px", "boxes"),
    "centre": Target("values", ("x", "y"), "px", "points"),
    "map": Target("map", ("depth",), "m"),
    "weight": Target("values", ("weight",), "kg"),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


def rectangle(count=400, **options):
    """Samples of 12×16 pixels: a rectangle at x from 5 to 9 and y from 4 to 7, on black; all its targets."""
    images = np.zeros((count, 1, 12, 16), np.uint8)
    images[:, :, 4:7, 5:9] = 200
    targets = {
        "mask": (images[:, 0] > 0).astype(np.uint8),
        "box": np.tile([5, 4, 9, 7], (count, 1)),
        "centre": np.tile([7.0, 5.5], (count, 1)),
        "map": images.astype(np.float32) / 100,
        "weight": np.full((count, 1), 3.5),
    }
    return InMemory(images, targets, KINDS, mean=(0.0,), std=(1 / 255,), **options)


def test_without_augmentation_targets_are_as_given_in_their_units():
    batch = rectangle(2).batch([1], None)
    assert batch.targets["mask"].dtype == torch.int64
    assert batch.targets["mask"][0, 4:7, 5:9].eq(1).all()
    assert batch.targets["mask"].sum() == 12
    assert batch.targets["box"].tolist() == [[5, 4, 9, 7]]
    assert batch.targets["centre"].tolist() == [[7, 5.5]]
    assert batch.targets["map"].shape == (1, 1, 12, 16)
    assert batch.targets["map"].max() == 2
    assert batch.targets["weight"].tolist() == [[3.5]]


def test_targets_move_with_the_image():
    split = rectangle(1500, shift=3, flip=True)
    batch = split.batch(range(len(split)), (1, 2))
    rows, columns = torch.arange(12) + 0.5, torch.arange(16) + 0.5
    seen = set()
    for x, mask, box, centre, depth in zip(
        batch.inputs[:, 0], *(batch.targets[name] for name in ("mask", "box", "centre", "map")), strict=True
    ):
        inside = x.round() == 200
        assert torch.equal(mask == 1, inside), "the mask is not where the object is"
        assert torch.equal(depth[0] > 0, inside)
        x0, y0, x1, y1 = box.tolist()
        across, down = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
        assert (x0, y0, x1, y1) == (across[0], down[0], across[-1] + 1, down[-1] + 1), "the box is not tight"
        assert centre[0] == pytest.approx(float((inside.sum(0) * columns).sum() / inside.sum()))
        assert centre[1] == pytest.approx(float((inside.sum(1) * rows).sum() / inside.sum()))
        seen.add((x0, y0))
    across = {x for shift in range(-3, 4) for x in (5 + shift, 16 - 9 - shift)}
    assert seen == {(x, y) for x in across for y in range(1, 8)}
    assert set(batch.targets["mask"].unique().tolist()) == {0, 1, IGNORED}, "what moves in is not known"
    assert batch.targets["weight"].eq(3.5).all()


def test_a_shift_to_the_right_by_two_and_up_by_one_in_numbers():
    movement = Movement(np.array([[-1, 2]]), np.array([False]), 2)
    boxes = np.array([[[[5, 4], [9, 7]]]], np.float32)
    assert movement.of_boxes(boxes, (12, 16)).tolist() == [[[[7, 3], [11, 6]]]]
    assert movement.of_points(np.array([[[7, 5.5]]], np.float32), (12, 16)).tolist() == [[[9, 4.5]]]
    mirrored = Movement(np.array([[-1, 2]]), np.array([True]), 2)
    assert mirrored.of_boxes(boxes, (12, 16)).tolist() == [[[[5, 3], [9, 6]]]], "x becomes 16 − x"
    assert mirrored.of_points(np.array([[[7, 5.5]]], np.float32), (12, 16)).tolist() == [[[7, 4.5]]]


def test_what_leaves_the_image_is_cut_off():
    movement = Movement(np.array([[0, 8], [5, -6]]), np.array([False, False]), 8)
    boxes = np.tile(np.array([[[5, 4], [9, 7]]], np.float32), (2, 1, 1, 1))
    assert movement.of_boxes(boxes, (12, 16)).tolist() == [[[[13, 4], [16, 7]]], [[[0, 9], [3, 12]]]]
    mask = np.zeros((2, 1, 12, 16), np.uint8)
    mask[:, :, 4:7, 5:9] = 1
    moved = movement.of_arrays(mask, "constant", IGNORED)
    assert (moved == 1).sum((1, 2, 3)).tolist() == [9, 9]
    assert (moved[0, 0, :, :8] == IGNORED).all()
    assert (moved[0, 0, :, 8:] != IGNORED).all()


def test_another_size_moves_and_scales_targets():
    batch = rectangle(2, size=(24, 16)).batch([0], None)
    assert batch.inputs.shape == (1, 1, 24, 16)
    assert batch.targets["box"].tolist() == [[5, 8, 9, 14]]
    assert batch.targets["centre"].tolist() == [[7, 11]]
    assert batch.targets["mask"][0, 8:14, 5:9].eq(1).all()
    assert batch.targets["mask"].sum() == 24
    assert batch.targets["map"].shape == (1, 1, 24, 16)
    assert batch.targets["map"].sum() == pytest.approx(48)


def test_nearest_takes_the_pixel_at_the_centre():
    row = np.arange(6)[None]
    assert nearest(row, (3,)).tolist() == [[1, 3, 5]]
    assert nearest(row, (12,)).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]]


@pytest.mark.parametrize(("shape", "size"), [((1, 1, 8), (4,)), ((1, 1, 8, 8), (4, 4)), ((1, 1, 8, 8, 8), (4, 4, 4))])
def test_smaller_samples_of_any_rank_are_averages(shape, size):
    ramp = torch.arange(8.0).expand(shape).contiguous()
    small = resized(ramp, size)
    assert small.shape == (1, 1, *size)
    middle = small.flatten(0, -2)[0]
    assert middle[1:3].tolist() == pytest.approx([2.5, 4.5], abs=1e-5), "the average of pixels 2, 3 and of 4, 5"
    assert torch.allclose(small, middle.expand_as(small), atol=1e-5)


@pytest.mark.parametrize("size", [None, 48])
def test_the_embedded_set_says_where_the_digit_is(size):
    data = open_data(DataSpec(train_items=200, test_items=50, size=size))
    made = scattered_digits(50, image_size=size or 32, split="test")
    assert {name: target.kind for name, target in data.targets.items()} == {
        "label": "class",
        "mask": "mask",
        "box": "values",
        "centre": "values",
    }
    batch = data.test.batch(range(50), None)
    assert np.array_equal(batch.targets["mask"], made["masks"])
    assert np.array_equal(batch.targets["box"], made["boxes"])
    assert np.array_equal(batch.targets["label"], made["labels"])
    assert torch.equal(batch.targets["centre"], (batch.targets["box"][:, :2] + batch.targets["box"][:, 2:]) / 2)
    side = size or 32
    fixed, moved = data.train.batch(range(200), None), data.train.batch(range(200), (0, 0))
    by = moved.targets["centre"] - fixed.targets["centre"]
    assert by.abs().max() == side // 16
    whole = 0
    for item in range(200):
        right, down = (int(v) for v in by[item])
        before, after = fixed.targets["mask"][item], moved.targets["mask"][item]
        window = (slice(max(down, 0), side + min(down, 0)), slice(max(right, 0), side + min(right, 0)))
        source = (slice(max(-down, 0), side + min(-down, 0)), slice(max(-right, 0), side + min(-right, 0)))
        assert torch.equal(after[window], before[source])
        assert torch.equal(moved.inputs[item, 0][window], fixed.inputs[item, 0][source])
        assert after.eq(IGNORED).sum() == side**2 - (side - abs(down)) * (side - abs(right))
        if after.eq(1).sum() == before.sum():  # no ink left the image
            x0, y0, x1, y1 = moved.targets["box"][item].int().tolist()
            columns, rows = after.eq(1).any(0).nonzero(), after.eq(1).any(1).nonzero()
            assert (x0, y0, x1, y1) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            whole += 1
    assert whole > 150


def test_floats_keep_their_scale_and_have_no_mirror_images_unless_wanted():
    rng = np.random.default_rng(0)
    signals = (5 + 3 * rng.standard_normal((40, 1, 100))).astype(np.float32)
    targets = {"fault": rng.integers(0, 2, (40, 5)), "speed": rng.standard_normal((40, 1))}
    kinds = {"fault": Target("class", tuple("abcde")), "speed": Target("values", ("speed",), "m/s")}
    data = in_memory(
        DataSpec(train_items=30), (signals, targets), (signals, targets), kinds, name="signals", fingerprint="0" * 16
    )
    assert data.inputs == (1, 100)
    assert "30 train and 40 test samples of 100 values" in data.description
    batch = data.train.batch(range(30), None)
    assert float(batch.inputs.mean()) == pytest.approx(0, abs=1e-4)
    assert float(batch.inputs.std()) == pytest.approx(1, abs=1e-2)
    assert batch.targets["fault"].dtype == torch.float32, "several labels a sample"
    assert batch.targets["fault"].shape == (30, 5)
    assert data.train.strata is None
    kept = [int(data.train.name_of(item)) for item in range(30)]
    assert np.allclose(batch.targets["speed"], targets["speed"][kept])
    assert data.about["augmentation"] == "none"
    assert torch.equal(data.train.batch([3], (0, 0)).inputs, batch.inputs[3:4])


def test_a_size_of_another_rank_is_refused():
    signals = np.zeros((4, 1, 100), np.float32)
    with pytest.raises(ValueError, match=r"signals: wanted a size of 1 numbers, such as \[100\]; got \[8, 8\]"):
        in_memory(DataSpec(size=8), (signals, {}), (signals, {}), {}, name="signals", fingerprint="0" * 16)


def test_an_image_of_ones_own_is_prepared_as_the_test_split_gives_it(tmp_path):
    from PIL import Image

    data = open_data(DataSpec(train_items=20, test_items=20))
    made = scattered_digits(20, split="test")
    Image.fromarray(made["images"][3]).save(tmp_path / "digit.png")
    expected = data.test.batch([3], None).inputs[0]
    assert torch.equal(data.prepare(tmp_path / "digit.png"), expected)
    assert torch.equal(data.prepare(Image.open(tmp_path / "digit.png")), expected)
    wide = Image.new("L", (64, 32), 255)
    wide.paste(Image.fromarray(made["images"][3]), (16, 0))
    assert torch.equal(data.prepare(wide), expected), "of a wide image the middle"
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png: not an image, whatever its name says"):
        data.prepare(tmp_path / "text.png")
