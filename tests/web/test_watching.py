"""A study that is being written, as the page reads it."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from foveate.web.watching import history_so_far, standing


def test_the_epochs_of_a_run_that_trains_are_read_from_its_checkpoint(tmp_path: Path) -> None:
    place = tmp_path / "runs" / "key"
    place.mkdir(parents=True)
    assert history_so_far(tmp_path, "key") == []
    history = [{"epoch": 1, "train_loss": 2.5}, {"epoch": 2, "train_loss": 2.0}]
    facts = {"key": "key", "facts": json.dumps({"history": history, "step": 7})}
    path = place / "checkpoint.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, facts)
    assert history_so_far(tmp_path, "key") == history
    path.write_bytes(path.read_bytes()[:20])
    assert history_so_far(tmp_path, "key") == []
    path.write_bytes(b"\xff" * 64)
    assert history_so_far(tmp_path, "key") == []


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wanted the folder of a study"):
        standing(tmp_path)
