"""Two arms → their comparison, and a family of comparisons → its words; the formulas are in `inference`."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from foveate.spec import Metric
from foveate.study.analyse import inference
from foveate.study.analyse.sign_flip import sign_flip_p
from foveate.summary import ALPHA, Comparison, Estimate, Interval


def mean_and_sd(values: Sequence[float], scale: float = 0.0) -> tuple[float, float | None]:
    """Mean and sample standard deviation; the latter is None for one value, and 0 where the values are equal.

    scale: of the values that these were computed from, where they are differences of others.
    """
    found = inference.evidence(values, scale=scale)
    sd = math.sqrt(len(values) * float(found.seed_variance)) if len(values) > 1 else None
    return math.fsum(values) / len(values), sd


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % Student-t interval of the mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    found = inference.evidence(values)
    half = 0.0 if found.seed_variance == 0 else float(inference.half_width(found, ALPHA))
    mean = math.fsum(values) / len(values)
    return mean - half, mean + half


def estimate(scores: Mapping[int, float]) -> Estimate | None:
    """Mean, sd and interval of one arm's values, seed → value; None where there are none."""
    if not scores:
        return None
    seeds = tuple(sorted(scores))
    values = tuple(scores[seed] for seed in seeds)
    low, high = t_interval(values) or (None, None)
    mean, sd = mean_and_sd(values)
    return Estimate(mean, sd, low, high, seeds, values)


def paired(
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
    metric: Metric,
    *,
    failed: Collection[int] = (),
    failed_other: Collection[int] = (),
    item_variance: float = 0.0,
    items: int = 0,
    overlap: float = 0.0,
) -> Comparison | None:
    """`ours - theirs` over the seeds that both have, in the values' own unit; None where they share no seed.

    A failed run is an outcome, the worst one: with one there is no interval, and p is that of the signed-rank test over
    all pairs. Where every difference is the same and not zero an interval over seeds does not exist either, and p is
    the exact sign-flip p. All zero: interval 0 to 0 and p = 1. One seed: no interval, no p.

    failed, failed_other: seeds whose run failed; they count where the other side has an outcome too.
    item_variance, items: the items' part of the mean's variance, and their number.
    overlap: test over training items, where each seed has its own division of them.
    """
    seeds = tuple(sorted(set(ours) & set(theirs)))
    if not seeds:
        return None
    known, known_other = {*ours, *failed}, {*theirs, *failed_other}
    lost = tuple(sorted(set(failed) & known_other))
    lost_other = tuple(sorted(set(failed_other) & known))
    scale = max(abs(scores[seed]) for scores in (ours, theirs) for seed in seeds)
    differences = tuple(ours[seed] - theirs[seed] for seed in seeds)
    found = inference.evidence(differences, item_variance, items, scale, overlap)
    mean, many = float(found.mean), len(seeds) > 1
    comparison = Comparison(
        seeds=seeds,
        differences=differences,
        mean=mean,
        gain=metric.gain(mean, 0.0),
        sd=math.sqrt(len(seeds) * float(found.seed_variance)) if many else None,
        low=None,
        high=None,
        p=None,
        test=None,
        seeds_only=_interval(found.seeds_only(), ALPHA),
        items=items,
        item_share=float(found.item_share) if items and many and found.variance > 0 else None,
        item_variance=item_variance,
        overlap=overlap,
        p_exact=sign_flip_p(differences, scale),
        p_exact_floor=min(1.0, 2.0 ** (1 - len(seeds))),
        failed=lost,
        failed_other=lost_other,
        missing=tuple(sorted(known ^ known_other)),
    )
    if lost or lost_other:
        test = "signed rank with failed runs as the worst"
        nothing = Interval(None, None, None)
        p = float(inference.signed_rank_p(_gains(comparison, metric)))
        return dataclasses.replace(comparison, p=p, test=test, seeds_only=nothing)
    if not many:
        return comparison
    whole = _interval(found, ALPHA)
    test = "seeds and divisions" if overlap else "seeds and items" if items else "seeds"
    if found.variance == 0:
        test = "exact sign flip" if mean else "none needed"
    return dataclasses.replace(comparison, low=whole.low, high=whole.high, p=whole.p, test=test)


def _interval(found: inference.Evidence, level: float) -> Interval:
    if found.seeds < 2:
        return Interval(None, None, None)
    p = float(inference.p_value(found))
    if found.variance == 0:
        return Interval(None, None, p) if found.mean else Interval(0.0, 0.0, p)
    half = float(inference.half_width(found, level))
    return Interval(float(found.mean) - half, float(found.mean) + half, p)


def evidence_of(found: Comparison) -> inference.Evidence:
    """The evidence that a comparison without failed runs was made from."""
    variance = 0.0 if found.sd is None else found.sd**2 / len(found.seeds)
    whole = inference.evidence(found.differences, found.item_variance, found.items)
    return dataclasses.replace(
        whole,
        mean=np.asarray(found.mean),
        seed_variance=np.asarray(variance),
        overlap_variance=found.overlap * len(found.seeds) * variance,
    )


def _gains(found: Comparison, metric: Metric) -> list[float]:
    """A gain for each pair; a failed run of ours is −inf, of theirs +inf, of both 0."""
    alone, other = set(found.failed) - set(found.failed_other), set(found.failed_other) - set(found.failed)
    gains = [metric.gain(value, 0.0) for value in found.differences]
    both = len(set(found.failed) & set(found.failed_other))
    return gains + [-math.inf] * len(alone) + [math.inf] * len(other) + [0.0] * both


def judge(
    family: Sequence[Comparison | None],
    metrics: Sequence[Metric],
    margins: Sequence[float | None],
    *,
    dropped: int = 0,
    weight: float = 1.0,
) -> list[Comparison | None]:
    """The comparisons of one family with their words and corrected figures.

    Claims without a finished pair, and those that were planned once and dropped, stay members of the family.

    metrics, margins: of each; a margin of None: nothing can be equivalent.
    """
    size = len(family) + dropped
    members = [number for number, found in enumerate(family) if found is not None]
    judged: list[Comparison | None] = list(family)
    if not members:
        return judged
    level = ALPHA * weight / size
    gains, p, p_same = [], [], []
    for number in members:
        found, metric, margin = family[number], metrics[number], margins[number] or 0.0
        assert found is not None
        failures = bool(found.failed or found.failed_other)
        gains.append(float(inference.median_gain(_gains(found, metric))) if failures else found.gain)
        p.append(1.0 if found.p is None else found.p)
        same = not failures and len(found.seeds) > 1
        p_same.append(float(inference.equivalence_p(evidence_of(found), margin)) if same else 1.0)
    runs = [_sure(family[number]).runs for number in members]
    decision = inference.decide(
        gains,
        p,
        p_same,
        [margins[number] or 0.0 for number in members],
        seeds=runs,
        failed=[len(_sure(family[number]).failed) for number in members],
        failed_other=[len(_sure(family[number]).failed_other) for number in members],
        weight=weight,
        dropped=size - len(members),
    )
    for place, number in enumerate(members):
        found = _sure(family[number])
        word = inference.WORDS[int(decision.words[place])]
        if found.p is not None and found.sd == 0 and found.mean == 0 and not (found.failed or found.failed_other):
            word = "identical" if word != "too few seeds" else word
        claim = _interval(evidence_of(found), level) if found.low is not None else Interval(None, None, None)
        judged[number] = dataclasses.replace(
            found,
            comparisons=size,
            p_holm=None if found.p is None else float(decision.p_holm[place]),
            claim_low=claim.low,
            claim_high=claim.high,
            word=word,
        )
    return judged


def _sure(found: Comparison | None) -> Comparison:
    assert found is not None, "members of a family have pairs"
    return found
