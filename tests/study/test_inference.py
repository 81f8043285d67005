"""The formulas of a verdict against scipy, against brute force, and by simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from foveate.study.analyse.inference import (
    BETTER,
    EQUIVALENT,
    TOO_FEW,
    UNDECIDED,
    WORSE,
    decide,
    equivalence_p,
    evidence,
    failure_bound,
    half_width,
    holm,
    item_variance,
    look_weight,
    median_gain,
    p_value,
    pooled_freedom,
    resampled_item_variance,
    sd_bound,
    signed_rank_p,
)

DRAW = np.random.default_rng(11)


def test_without_items_it_is_the_paired_t_test() -> None:
    data = DRAW.normal(0.4, 1, (6, 7))
    found, wanted = evidence(data), stats.ttest_1samp(data, 0, axis=1)
    assert p_value(found) == pytest.approx(wanted.pvalue, rel=1e-9)
    interval = wanted.confidence_interval(0.95)
    assert found.mean + half_width(found, 0.05) == pytest.approx(interval.high, rel=1e-9)


def test_p_is_the_level_at_which_the_interval_ends_at_the_null() -> None:
    found = evidence(DRAW.normal(0.4, 1, (50, 5)), np.full(50, 0.1), 40)
    for null in (0.0, 0.3):
        p = p_value(found, null)
        assert half_width(found, p) == pytest.approx(np.abs(found.mean - null), rel=1e-5)


def test_equal_differences_have_the_exact_p() -> None:
    assert float(p_value(evidence([0.1] * 6))) == 2 / 2**6
    assert float(p_value(evidence([0.0] * 6))) == 1.0
    assert np.isnan(p_value(evidence([0.3])))


def test_equivalence_is_two_one_sided_tests() -> None:
    data = DRAW.normal(0.1, 0.3, 9)
    low = stats.ttest_1samp(data, -0.5, alternative="greater").pvalue
    high = stats.ttest_1samp(data, 0.5, alternative="less").pvalue
    assert float(equivalence_p(evidence(data), 0.5)) == pytest.approx(2 * max(low, high), rel=1e-9)
    assert float(equivalence_p(evidence(data + 1), 0.5)) == 1.0


def test_the_items_part_is_what_the_seeds_share() -> None:
    own, rest = DRAW.normal(0, 0.5, (400, 1, 80)), DRAW.normal(0, 2, (400, 6, 80))
    assert item_variance(own + rest).mean() == pytest.approx(0.25 / 80, rel=0.15)
    each = (own + rest)[0]
    analytic = item_variance(each - each.mean())
    resampled = resampled_item_variance(lambda w: (w @ each.T) / w.sum(1, keepdims=True), 80)
    assert resampled == pytest.approx(float(analytic), rel=0.25, abs=0.002)
    assert item_variance(own + rest, np.arange(80)) == pytest.approx(item_variance(own + rest))


def test_groups_count_as_one() -> None:
    groups = np.repeat(np.arange(10), 8)
    step = DRAW.normal(0, 1, (300, 1, 10))[..., groups]
    noise = DRAW.normal(0, 0.5, (300, 4, 80))
    assert item_variance(step + noise, groups).mean() == pytest.approx(0.1, rel=0.15)
    assert item_variance(step + noise).mean() < 0.03


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("share", [0.0, 0.5, 3.0])
def test_the_interval_over_seeds_and_items_covers(seeds: int, share: float) -> None:
    draw = np.random.default_rng((seeds, int(10 * share)))
    shape, items = (3000, seeds, 60), 60
    each = draw.normal(0, 1, shape) + draw.normal(0, 0.2, (3000, seeds, 1)) + draw.normal(0, share, (3000, 1, items))
    found = evidence(each.mean(-1), item_variance(each), items)
    missed = float((np.abs(found.mean) > half_width(found, 0.05)).mean())
    assert 0.015 <= missed <= 0.062


def test_signed_ranks_are_scipys_and_failed_runs_the_worst() -> None:
    gains = DRAW.normal(0.4, 1, (5, 8))
    wanted = [stats.wilcoxon(one, method="exact").pvalue for one in gains]
    assert signed_rank_p(gains) == pytest.approx(wanted)
    lost = np.array([0.1, 0.2, -np.inf, 0.3, -np.inf])
    ranks = np.array([1, 2, -4.5, 3, -4.5])
    sums = [abs(float(np.dot(signs, np.abs(ranks)))) for signs in itertools.product((1, -1), repeat=5)]
    assert float(signed_rank_p(lost)) == np.mean(np.array(sums) >= abs(ranks.sum()))
    assert float(signed_rank_p([-np.inf] * 6)) == 2 / 2**6
    assert float(signed_rank_p([0.0] * 4)) == 1.0
    assert median_gain([[-np.inf, np.inf, 1.0], [np.inf, 2.0, 3.0]]).tolist() == [1.0, 3.0]
    assert float(median_gain([-np.inf, np.inf])) == 0.0


def test_holm_counts_what_was_dropped() -> None:
    assert holm([[0.01, np.nan, 0.04]], 1)[0].tolist() == pytest.approx([0.03, np.nan, 0.08], nan_ok=True)


@pytest.mark.parametrize("looks", [(3, 5, 8, 10, 15, 20), tuple(range(3, 21)), (20,), (5, 20)])
@pytest.mark.parametrize("most", [None, 20])
def test_looks_spend_no_more_than_there_is(looks: tuple[int, ...], most: int | None) -> None:
    spent = sum(look_weight(looks[: number + 1], most) for number in range(len(looks)))
    assert spent <= 1 + 1e-12
    if most:
        assert spent == pytest.approx(0.95)
        assert spent + look_weight([*looks, 25, 30], most) < 1


def test_a_promise_that_is_broken_costs() -> None:
    assert look_weight([10, 20], 20) > look_weight([10, 25], 20)
    assert look_weight([5, 5], 20) == pytest.approx((1 - look_weight([5], 20)) / 2)
    assert look_weight([5, 5, 20], 20) == pytest.approx(look_weight([5, 5], 20) / 2)  # nothing is declared any more
    assert 0 < look_weight([3, 3], None) < look_weight([3], None)


def test_looking_after_every_seed_makes_false_claims_in_five_percent_at_most() -> None:
    data, some = np.random.default_rng(2).normal(size=(4000, 1, 20)), np.zeros(4000, bool)
    for seeds in range(3, 21):
        found = evidence(data[..., :seeds])
        weight = look_weight(range(3, seeds + 1))
        words = decide(found.mean, p_value(found), np.ones((4000, 1)), 0.0, seeds=found.seeds, weight=weight).words
        some |= (words != UNDECIDED)[:, 0]
    assert some.mean() <= 0.05


def test_the_decision() -> None:
    gain, margin = [0.3, -0.3, 0.3, 0.0, 0.001, 0.3], [0.1, 0.1, 0.5, 0.1, 0.1, 0.1]
    p, same = [0.001, 0.001, 0.001, 0.9, 0.001, 0.001], [1.0, 1.0, 1.0, 0.001, 0.001, 1.0]
    seeds = [5, 5, 5, 5, 5, 2]
    found = decide(gain, p, same, margin, seeds=seeds)
    assert found.words.tolist() == [BETTER, WORSE, UNDECIDED, EQUIVALENT, EQUIVALENT, TOO_FEW]
    failed = decide([1.0, -1.0], [0.001, 0.001], [1.0, 1.0], 0.0, failed=[1, 0], failed_other=[0, 1])
    assert failed.words.tolist() == [UNDECIDED, UNDECIDED]  # better with more failures, worse with fewer: neither


def test_bounds() -> None:
    assert failure_bound(0, 5) == pytest.approx(1 - 0.05 ** (1 / 5))
    assert failure_bound(0, 300) == pytest.approx(3 / 300, rel=0.01)  # the rule of three
    assert failure_bound(2, 10) == pytest.approx(stats.beta.ppf(0.95, 3, 8))
    assert failure_bound(4, 4) == 1.0
    sds = np.random.default_rng(0).normal(size=(20_000, 3)).std(1, ddof=1)
    assert float(np.mean(sd_bound(1.0, 2) * sds > 1)) == pytest.approx(0.8, abs=0.01)
    assert pooled_freedom(5, 1) == 4
    assert 4 < pooled_freedom(5, 12) < 16
