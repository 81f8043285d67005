"""The joint transform: image, mask, boxes and instance masks move as one, by the numbers given and by nothing else."""

import numpy as np
import pytest
import torch

from foveate.data.augmentation import uniforms
from foveate.data.dataset import IGNORED
from foveate.data.joint import DRAWS, JointTransform, joint_sample

FILL = (7.0, 7.0, 7.0)


@pytest.fixture
def sample():
    """A 40×60 image whose red is 100 on the object, 200 on none; the box and both masks are those of the object."""
    mask = np.zeros((40, 60), np.uint8)
    mask[8:20, 30:50] = 1
    image = np.where(mask[..., None] == 1, 100, 200).repeat(3, 2).astype(np.uint8)
    box = np.array([[30, 8, 50, 20], [0, 38, 3, 40]])
    masks = np.stack([mask, np.zeros_like(mask)])
    return joint_sample(image, mask=mask, boxes=box, labels=np.array([1, 2]), masks=masks)


def draws(count=30):
    return uniforms((3, 1), np.arange(count), DRAWS)


def test_every_entry_moves_alike(sample):
    transform = JointTransform((32, 48), colour=0, fill=FILL)
    mirrored = padded = lost = 0
    for row in draws():
        found = transform.train(sample, row)
        image, mask = found["image"], found["mask"]
        assert image.shape == (3, 32, 48)
        assert mask.shape == (32, 48)
        on, off = mask == 1, mask == 0
        assert (image[0][on].float() - 100).abs().float().mean() < 30 or not on.any()
        assert (image[0][off].float() - 200).abs().float().mean() < 10
        assert (image[:, mask == IGNORED] == 7).float().mean() > 0.9 or not (mask == IGNORED).any()
        assert len(found["boxes"]) == len(found["labels"]) == len(found["masks"])
        lost += 1 not in found["labels"]
        for box, label, one in zip(found["boxes"], found["labels"], found["masks"], strict=True):
            if label == 1:
                assert torch.equal(one == 1, on)
                rows, columns = on.any(1).nonzero(), on.any(0).nonzero()
                ink = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                assert (box - ink).abs().max() <= 1.01
        mirrored += row[1] < 0.5
        padded += bool((mask == IGNORED).any())
    assert 5 < mirrored < 25
    assert 5 < padded < 25
    assert lost


def test_the_same_numbers_give_the_same_sample_and_no_generator_is_touched(sample):
    before = torch.get_rng_state()
    transform = JointTransform((32, 48), whole=False, largest_share=0.9)
    one, other = (transform.train(sample, draws(1)[0]) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(before, torch.get_rng_state())


def test_evaluation_shows_the_whole_image_in_the_size_or_as_it_is(sample):
    found = JointTransform((20, 60), fill=FILL).evaluate(sample)
    assert found["image"].shape == (3, 20, 60)
    assert (found["mask"][:, 30:] == IGNORED).all()
    assert (found["mask"][:, :30] != IGNORED).all()
    assert found["boxes"][0].tolist() == [15, 4, 25, 10]
    assert (found["image"][:, :, 30:] == 7).all()
    own = JointTransform((20, 60), whole=False).evaluate(sample)
    assert torch.equal(own["image"], sample["image"])


def test_a_crop_has_a_known_pixel_where_there_is_one_and_no_class_fills_it_where_another_is_found():
    mask = np.full((64, 64), IGNORED, np.uint8)
    mask[60, 3] = 1
    one = joint_sample(np.zeros((64, 64, 1), np.uint8), mask=mask)
    for row in draws(10):
        found = JointTransform((8, 8), whole=False, scales=(1, 1), colour=0).train(one, row)["mask"]
        assert (found == 1).sum() == 1
    halves = np.zeros((64, 64), np.uint8)
    halves[:, 32:] = 1
    two = joint_sample(np.zeros((64, 64, 1), np.uint8), mask=halves)
    shares = {}
    for most in (None, 0.75):
        transform = JointTransform((16, 16), whole=False, scales=(1, 1), colour=0, largest_share=most)
        masks = [transform.train(two, row)["mask"] for row in draws(20)]
        shares[most] = sum(bool(0.25 <= (mask == 1).float().mean() <= 0.75) for mask in masks)
    assert shares[0.75] > 15 > shares[None]


def test_colour_changes_the_image_alone_and_grey_images_too(sample):
    plain, coloured = (JointTransform((40, 60), scales=(1, 1), colour=c).train(sample, draws(1)[0]) for c in (0, 0.5))
    assert torch.equal(plain["mask"], coloured["mask"])
    assert not torch.equal(plain["image"], coloured["image"])
    grey = joint_sample(np.full((5, 5, 1), 90, np.uint8))
    assert JointTransform((5, 5), colour=0.5).train(grey, draws(1)[0])["image"].shape == (1, 5, 5)


@pytest.mark.parametrize("wrong", [{"scales": (2, 1)}, {"colour": 1.0}, {"largest_share": 0}])
def test_values_out_of_their_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        JointTransform((8, 8), **wrong)
