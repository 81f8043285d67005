"""Recall of each class, from the answers that runs of a classification keep."""

from pathlib import Path

import numpy as np

from foveate.items import ANSWERS, write_items
from foveate.study.analyse.classes import by_class

NAMES = ["a.png", "b.png", "c.png", "d.png"]


def kept(path: Path, true: list[int], predicted: list[int]) -> Path:
    answers = {"item": np.arange(4), "true": np.array(true), "predicted": np.array(predicted)}
    write_items(path, NAMES, {"accuracy": np.equal(true, predicted).astype(np.float32)}, tables={ANSWERS: answers})
    return path


def test_recall_of_a_class_is_paired_by_seed_and_a_class_without_items_is_left_out(tmp_path: Path) -> None:
    true = [0, 0, 1, 1]
    items = {
        "none": {0: kept(tmp_path / "0", true, [0, 1, 1, 1]), 1: kept(tmp_path / "1", true, [0, 0, 1, 0])},
        "se": {0: kept(tmp_path / "2", true, [0, 0, 1, 1]), 1: kept(tmp_path / "3", true, [0, 0, 0, 0])},
    }
    ant, bee = by_class(items, ["ant", "bee", "cat"], "none", {})
    assert (ant.name, bee.name) == ("ant", "bee")
    assert ant.metric.name == "recall"
    assert ant.estimates["none"].values == (0.5, 1.0)
    assert ant.against_plain["se"].differences == (0.5, 0.0)
    assert bee.estimates["se"].values == (1.0, 0.0)
    assert bee.against_plain["se"].differences == (0.0, -0.5)
    assert "none" not in ant.against_plain


def test_runs_that_kept_no_answers_have_no_classes(tmp_path: Path) -> None:
    write_items(tmp_path / "0", NAMES, {"accuracy": np.ones(4, np.float32)})
    assert by_class({"none": {0: tmp_path / "0"}}, ["ant", "bee"], "none", {}) == ()
