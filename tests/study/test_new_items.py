"""Verdicts about new test items, groups of them and divisions, as well as about new seeds."""

from typing import Any

import numpy as np
import pytest
from made_up_scores import BETTER, Rows, judged, plain


def items_of(draw: np.random.Generator, seeds: int, items: int, own: float) -> dict[str, dict[int, Any]]:
    names = [f"{number}.png" for number in range(items)]
    shift = {"none": np.zeros(items), "se": draw.normal(0, own, items) + 0.05}
    return {
        label: {seed: (names, 0.5 + shift[label] + draw.normal(0, 0.02, items)) for seed in range(seeds)}
        for label in shift
    }


def test_new_items_widen_the_interval_and_may_take_the_verdict() -> None:
    items = items_of(np.random.default_rng(4), 8, 60, 0.2)
    rows: Rows = {label: [float(of_run[1].mean()) for of_run in of_arm.values()] for label, of_arm in items.items()}
    alone, both = judged(rows), judged(rows, items=items)
    assert alone.arm("se").verdict.word in {"better", "worse"}
    assert both.arm("se").verdict.word == "undecided"
    found = both.arm("se").against_plain
    assert found is not None
    assert found.test == "seeds and items"
    assert found.items == 60
    assert found.item_share is not None
    assert found.item_share > 0.9
    before = alone.arm("se").against_plain
    assert before is not None
    assert (found.seeds_only.low, found.seeds_only.high) == pytest.approx((before.low, before.high))
    assert "comes from seeds" in both.answer.about
    assert "% from the 60 items" in both.answer.about
    assert "there are no scores of single items" in alone.answer.about


def test_groups_of_items_are_resampled_whole() -> None:
    draw = np.random.default_rng(1)
    items = items_of(draw, 5, 60, 0.0)
    whose = {f"{number}.png": f"subject {number // 10}" for number in range(60)}
    step = np.repeat(draw.normal(0, 0.1, 6), 10)
    items["se"] = {seed: (names, values + step) for seed, (names, values) in items["se"].items()}
    rows: Rows = {label: [float(of_run[1].mean()) for of_run in of_arm.values()] for label, of_arm in items.items()}
    single = judged(rows, items=items).arm("se").against_plain
    whole = judged(rows, items=items, groups=whose).arm("se").against_plain
    assert single is not None
    assert whole is not None
    assert (single.items, whole.items) == (60, 6)
    assert whole.item_variance > 4 * single.item_variance
    about = judged(rows, items=items, groups=whose).answer.about
    assert "new seeds and new groups of test items alike" in about
    assert "% from the 6 groups of items" in about


def test_one_item_is_told() -> None:
    rows: Rows = {"none": plain(), "se": BETTER}
    one = {label: {seed: (["a"], np.array([v])) for seed, v in enumerate(of_arm)} for label, of_arm in rows.items()}
    assert judged(rows, items=one).answer.about == (
        "The verdict is about new seeds on this one test item: what other items would change is not known."
    )


def test_divisions_of_each_seed_are_corrected_for_their_overlap() -> None:
    items = items_of(np.random.default_rng(4), 5, 60, 0.02)
    rows: Rows = {label: [float(of_run[1].mean()) for of_run in of_arm.values()] for label, of_arm in items.items()}
    once, anew = judged(rows), judged(rows, items=items, overlap=0.25)
    before, found = once.arm("se").against_plain, anew.arm("se").against_plain
    assert before is not None
    assert found is not None
    assert (found.test, found.items) == ("seeds and divisions", 0)
    assert found.high - found.low == pytest.approx((before.high - before.low) * (1 + 5 * 0.25) ** 0.5)  # type: ignore[operator]
    assert anew.seeds_can_show.smallest == pytest.approx(once.seeds_can_show.smallest * 1.5)  # type: ignore[operator]
    assert anew.answer.about.startswith("The verdict is about new seeds, new divisions and new items alike")
    assert "drawn at once, " in anew.answer.about
    assert "and 56 % is added for what divisions of the same items share" in anew.answer.about
    bare = judged(rows, overlap=0.25).answer.about
    assert "44 % of the variance of its differences comes from seeds, training and test items, drawn at once" in bare


def test_items_that_do_not_match_leave_the_verdict_to_the_seeds() -> None:
    items = items_of(np.random.default_rng(4), 5, 60, 0.2)
    items["se"] = {seed: ([f"other {name}" for name in names], values) for seed, (names, values) in items["se"].items()}
    rows: Rows = {label: [float(of_run[1].mean()) for of_run in of_arm.values()] for label, of_arm in items.items()}
    assert judged(rows, items=items).arm("se").against_plain.items == 0  # type: ignore[union-attr]
    one = {label: {seed: (["a"], np.array([v])) for seed, v in enumerate(rows[label])} for label in rows}
    assert judged(rows, items=one).arm("se").against_plain.items == 0  # type: ignore[union-attr]
