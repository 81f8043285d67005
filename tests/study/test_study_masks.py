"""A study of segmentation on a person's own folder of images and masks, from the command line to its figures."""

import json
import sys

import numpy as np
import pytest
from in_process import run, small
from PIL import Image

from foveate.cli import main
from foveate.items import read_items
from foveate.spec import DataSpec
from foveate.study.evaluation import evaluate_run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """24 images of two sizes with a bright bar, which is class 1, on the left or on the right."""
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "bars"
    for what in ("images", "masks"):
        (root / what).mkdir(parents=True)
    for number in range(24):
        noise = np.random.default_rng(number)
        mask = np.zeros(((20, 24), (18, 26))[number % 2], np.uint8)
        mask[:, :8] = 1
        mask = mask[:, :: (1, -1)[number % 3 > 0]]
        image = (mask[..., None] * 150 + noise.integers(0, 60, (*mask.shape, 3))).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"{number}.png")
        Image.fromarray(mask * 255).save(root / "masks" / f"{number}.png")
    return root


def test_a_folder_of_masks_is_studied_at_the_images_own_sizes(folder, tmp_path, monkeypatch, capsys):
    data = DataSpec(source=str(folder), size=16, options={"classes": ["field", "bar"], "own_size": True})
    out = tmp_path / "study"
    summary = run(small(task="segmentation", network="foveate:unet_small", data=data, epochs=8), out)
    assert summary.failed == ()
    (place,) = (file.parent for file in (out / "runs").glob("*/items.npz"))
    names, items = read_items(place / "items.npz")
    assert len(names) == 5
    assert all(name.startswith("images/") for name in names)
    assert len(set(items["mIoU.union"].sum(1).tolist())) > 1
    assert items["pixel accuracy"].mean() > 0.8
    assert (place / "examples.png").is_file()
    scores = evaluate_run(f"{out}:none").scores
    np.testing.assert_allclose(scores.items["pixel accuracy"], items["pixel accuracy"], rtol=1e-6)
    monkeypatch.setattr(sys, "argv", ["foveate", "data", "check", str(folder), "--task", "segmentation", "--json"])
    with pytest.raises(SystemExit, match="0"):
        main()
    row = json.loads(capsys.readouterr().out)
    assert (row["kind"], row["test"]) == ("masks", {"items": 5, "classes": {"background": 5, "foreground": 5}})
