"""The demo ends in something decided, with a picture."""

import pytest
from PIL import Image

from foveate.cli.demo import demo_study, write_picture
from foveate.study import run_study


def test_the_demo_is_small_and_judges_by_paired_seeds():
    study = demo_study()
    assert [variant.name for variant in study.variants] == ["none", "se", "gc"]
    assert (len(study.seeds), study.control) == (5, "size")
    assert len(study.variants) * len(study.seeds) * study.train.epochs * study.data.train_items == 45_000


@pytest.mark.slow
def test_the_demo_is_decided_with_other_seeds_too_and_shows_what_the_attention_weighs(tmp_path):
    # not 33: all eight weights of its last layer end below 0 in the plain network, which then finds no ink at all
    summary = run_study(demo_study((20, 21, 22, 23, 24)), tmp_path / "demo")
    assert summary.arm("gc").verdict.word in ("better", "worse")
    assert summary.arm("se").verdict.word in ("better", "worse")
    assert summary.answer.short in ("Yes", "No")
    (tmp_path / "demo" / "report").mkdir()
    with Image.open(write_picture(tmp_path / "demo")) as picture:
        assert picture.size[0] > 5 * 160
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 100
