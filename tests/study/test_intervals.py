"""Intervals, tests and the planner against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from foveate.spec import Metric
from foveate.study.analyse import holm, paired, sign_flip_p, t_interval, what_seeds_can_show
from foveate.study.analyse.planner import smallest_in_sd

RATE = Metric("mIoU")
ERROR = Metric("error", unit="px", better="lower")


# -- intervals and tests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5, 10, 25, 1200])
def test_paired_is_scipys(n: int) -> None:
    draw = np.random.default_rng(n)
    ours, theirs = draw.normal(0.8, 0.01, n), draw.normal(0.79, 0.01, n)
    found = paired(dict(enumerate(ours.tolist())), dict(enumerate(theirs.tolist())), RATE)
    assert found is not None
    wanted = stats.ttest_rel(ours, theirs)
    interval = wanted.confidence_interval(0.95)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found.p_exact_floor == 2 / 2**n


@pytest.mark.parametrize("n", [2, 3, 6, 9, 12])
def test_sign_flip_is_scipys_exact_permutation_test(n: int) -> None:
    values = np.random.default_rng(n).normal(0.3, 1, n)
    wanted = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=2**n, vectorized=False)
    assert sign_flip_p(values.tolist()) == pytest.approx(wanted.pvalue, abs=1e-12)


def test_sign_flip_of_many_seeds_is_close_to_the_t_test() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, 30)
    assert sign_flip_p(values.tolist()) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)


@pytest.mark.parametrize("n", range(1, 13))
def test_sign_flip_reaches_its_floor_and_no_lower(n: int) -> None:
    assert sign_flip_p([0.01] * n) == min(1.0, 2 / 2**n)
    assert sign_flip_p([0.0] * n) == 1.0


def test_holm_known_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])  # as statsmodels gives
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_holm_controls_the_family() -> None:
    draw = np.random.default_rng(1)
    families = [holm(draw.uniform(size=5).tolist()) for _ in range(2000)]
    assert np.mean([min(family) < 0.05 for family in families]) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_t_interval_covers(n: int) -> None:
    draw = np.random.default_rng(n)
    intervals = [t_interval(draw.normal(0.5, 0.02, n).tolist()) or (0, 0) for _ in range(1500)]
    assert np.mean([low < 0.5 < high for low, high in intervals]) == pytest.approx(0.95, abs=0.02)


# -- planner ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "allowed"), [(3, 0), (5, 0), (6, 1), (7, 3), (8, 6), (9, 12), (10, 25)])
def test_planner_counts_what_an_exact_test_allows(n: int, allowed: int) -> None:
    plan = what_seeds_can_show(n, 1)
    assert plan.holm_allows == allowed
    assert plan.exact_can_reach == (allowed > 0)
    assert plan.seeds_for_exact == 6


def test_planner_says_so() -> None:
    text = what_seeds_can_show(5, 3).text
    assert "2/2^5 = 0.0625" in text
    assert "with 5 seeds an exact test can never reach 0.05 (it takes 7 for 3 comparisons)" in text
    assert "One seed shows nothing about seeds" in what_seeds_can_show(1, 3).text
    assert "3 comparisons take 7 seeds" in what_seeds_can_show(6, 3).text


@pytest.mark.parametrize(("n", "comparisons"), [(3, 1), (5, 1), (5, 4), (10, 12), (30, 1)])
def test_smallest_difference_has_eighty_percent_power(n: int, comparisons: int) -> None:
    size = smallest_in_sd(n, comparisons, 1.0)
    assert size is not None
    critical, shift = stats.t.ppf(1 - 0.025 / comparisons, n - 1), size * math.sqrt(n)
    power = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)
    assert power == pytest.approx(0.8, abs=0.002)


def test_planner_speaks_the_metrics_unit_and_has_limits() -> None:
    plan = what_seeds_can_show(5, 2, sd=0.004, metric=RATE)
    assert plan.smallest_sd is not None
    assert plan.smallest == pytest.approx(0.004 * plan.smallest_sd)
    assert f"At a standard deviation of 0.4 points that is about {100 * plan.smallest:.1f} points; smaller" in plan.text
    assert "At a standard deviation of 3.0 px that is about 6.5 px" in what_seeds_can_show(5, 2, 3.0, ERROR).text
    assert "points" not in what_seeds_can_show(5, 2, 3.0, ERROR).text
    assert what_seeds_can_show(3, 0).comparisons == 0
    assert what_seeds_can_show(3, 2, sd=0.0).smallest is None
    assert all(step.smallest_sd > 0 for step in what_seeds_can_show(2, 50).ladder)
    for seeds, comparisons, sd in ((0, 1, None), (3, -1, None), (3, 1, float("nan")), (3, 1, -0.1)):
        with pytest.raises(ValueError, match=r"wanted .* got"):
            what_seeds_can_show(seeds, comparisons, sd)
