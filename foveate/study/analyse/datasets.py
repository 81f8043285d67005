"""Several data sets: which arm ranks best, and what it gains on a new data set. Every formula with its source.

Sources: J. Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7 (2006), for the ranking, its
tests and its picture; A. Benavoli, G. Corani and F. Mangili, Should We Really Use Post-Hoc Tests Based on Mean-Ranks?,
JMLR 17 (2016), for the pairwise tests beside it.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveate.spec import Metric
from foveate.study.analyse import inference
from foveate.study.analyse.inference import FIRST_LOOK, TOO_FEW, Array
from foveate.study.analyse.moderation import moderation
from foveate.study.analyse.words import REFERENCE, listed
from foveate.summary import ALPHA, Across, Answer, Effect, Margin, RankedArm, Summary, Verdict, signed

LEAST_DATASETS = 3  # with fewer there is no verdict on new data sets


@dataclass(frozen=True)
class RandomEffect:
    """A mean over groups, its standard error, and the standard deviations between groups and within them."""

    mean: float
    error: float
    between_sd: float
    within_sd: float


def random_effect(groups: Sequence[ArrayLike]) -> RandomEffect:
    """The mixed model y = μ + b_group + e by restricted maximum likelihood; two groups or more, of any sizes.

    The error of μ is Hartung and Knapp's, with as many degrees of freedom as groups less one: for groups of one size
    that of the plain t test over their means.

    Source: H. Patterson and R. Thompson, Recovery of Inter-Block Information when Block Sizes are Unequal, Biometrika
    58 (1971); J. Hartung and G. Knapp, On Tests of the Overall Treatment Effect in Meta-Analysis with Normally
    Distributed Responses, Stat. Med. 20 (2001).
    """
    from scipy import optimize

    values = [np.asarray(group, dtype=float) for group in groups]
    sizes, means = np.array([len(one) for one in values]), np.array([one.mean() for one in values])
    inside, total = sum(float(((one - one.mean()) ** 2).sum()) for one in values), int(sizes.sum())
    count = len(values)

    def fitted(share: float) -> tuple[Array, float, float]:
        """Weights, mean and sum of squares where a share of the variance of one value lies between groups."""
        ratio = share / (1 - share)
        weights = sizes / (1 + sizes * ratio)
        mean = float((weights * means).sum() / weights.sum())
        return weights, mean, inside + float((weights * (means - mean) ** 2).sum())

    def cost(share: float) -> float:
        weights, _, squares = fitted(share)
        ratio = share / (1 - share)
        return (total - 1) * math.log(squares) + float(np.log1p(sizes * ratio).sum()) + math.log(weights.sum())

    most = 1 - 1e-9
    if inside <= inference.ROUNDING * float((means**2).sum()) or total == count:
        share = most  # no spread within groups is known
    else:
        share = float(optimize.minimize_scalar(cost, bounds=(0.0, most), method="bounded").x)
        share = min((0.0, share), key=cost)
    weights, mean, squares = fitted(share)
    error = math.sqrt(float((weights * (means - mean) ** 2).sum()) / ((count - 1) * float(weights.sum())))
    within = squares / (total - 1)
    return RandomEffect(mean, error, math.sqrt(within * share / (1 - share)), math.sqrt(within))


def mean_ranks(gains: ArrayLike) -> Array:
    """Ranks (data sets, arms) of values of which more is better: 1 is the best, equal values share their mean rank."""
    from scipy import stats

    return np.asarray(stats.rankdata(-np.asarray(gains, dtype=float), axis=1))


def friedman_p(ranks: Array) -> float | None:
    """p that all arms rank alike: Iman and Davenport's form of Friedman's test; None for two arms.

    Source: R. Iman and J. Davenport, Approximations of the Critical Region of the Friedman Statistic, Commun. Stat. 9
    (1980).
    """
    from scipy import special

    sets, arms = ranks.shape
    if arms < 3 or sets < 2:
        return None
    tied = sum(float((np.unique(row, return_counts=True)[1] ** 3.0).sum()) - arms for row in ranks)
    scale = 1 - tied / (sets * arms * (arms**2 - 1))
    if scale <= 0:
        return 1.0
    chi = 12 * sets / (arms * (arms + 1)) * float(((ranks.mean(0) - (arms + 1) / 2) ** 2).sum()) / scale
    largest = sets * (arms - 1)
    if chi >= largest * (1 - 1e-12):
        return 0.0
    f = (sets - 1) * chi / (largest - chi)
    return float(special.fdtrc(arms - 1, (arms - 1) * (sets - 1), f))


def critical_difference(arms: int, sets: int) -> float:
    """By how much two mean ranks must differ, at 0.05 for all pairs at once.

    Source: P. Nemenyi, Distribution-Free Multiple Comparisons, 1963.
    """
    from scipy import stats

    return (
        float(stats.studentized_range.ppf(1 - ALPHA, arms, np.inf))
        / math.sqrt(2)
        * math.sqrt(arms * (arms + 1) / (6 * sets))
    )


def groups_alike(ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """(first, last) of each largest run of ascending mean ranks that differ by less than this; runs of one are none."""
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(place for place in range(first, len(ranks)) if ranks[place] - ranks[first] < difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def not_ranked(datasets: Mapping[str, Summary]) -> str:
    """Why the arms of these studies cannot be ranked together; "": they can."""
    if len(datasets) < 2:
        return f"wanted two data sets or more; got {len(datasets)}"
    (first_name, first), *others = datasets.items()
    for name, summary in others:
        if summary.metric != first.metric:
            got = f"{first.metric.name!r} in {first_name} and {summary.metric.name!r} in {name}"
            return f"wanted one metric, of one unit and direction, for all data sets; got {got}"
        if summary.plain != first.plain:
            return f"wanted one reference for all; got {first.plain!r} in {first_name}, {summary.plain!r} in {name}"
    _, labels = _finished(datasets)
    if first.plain not in labels or len(labels) < 2:
        return f"wanted {first.plain!r} and a variant with finished runs on every data set; got {labels or 'none'}"
    return ""


def _finished(datasets: Mapping[str, Summary]) -> tuple[list[set[str]], list[str]]:
    """Labels of the arms with a score in each study, and those that all have, in the order of the first."""
    known = [{arm.label for arm in one.arms if arm.kind != "control" and arm.score} for one in datasets.values()]
    first = next(iter(datasets.values()))
    return known, [arm.label for arm in first.arms if all(arm.label in one for one in known)]


def across(datasets: Mapping[str, Summary]) -> Across:
    """What several data sets say together about the arms that all of them have.

    Raises: ValueError: fewer than two data sets, other metrics or references, or no variant that all of them finished.
    """
    if why := not_ranked(datasets):
        raise ValueError(why)
    first = next(iter(datasets.values()))
    metric, plain = first.metric, first.plain
    known, labels = _finished(datasets)
    notes = [f"{label} is not on every data set and left out" for label in sorted(set.union(*known) - set(labels))]
    for label in labels:
        lost = [name for name, one in datasets.items() if one.arm(label).failed]
        notes += [f"runs of {label} failed on {listed(lost)}: its ranks are those of the others"] if lost else []
    scores = np.array([[_score(summary, label) for label in labels] for summary in datasets.values()])
    ranks, margin = mean_ranks(scores), _margin(datasets)
    variants = [label for label in labels if label != plain]
    effects, verdicts = _judged([_effect(datasets, label) for label in variants], margin, metric, len(datasets))
    arms = [
        RankedArm(
            label,
            tuple(ranks[:, place].tolist()),
            float(ranks[:, place].mean()),
            None if label == plain else effects[variants.index(label)],
            REFERENCE if label == plain else verdicts[variants.index(label)],
        )
        for place, label in enumerate(labels)
    ]
    arms.sort(key=lambda arm: arm.mean_rank)
    difference = critical_difference(len(labels), len(datasets))
    runs = groups_alike([arm.mean_rank for arm in arms], difference)
    return Across(
        metric=metric,
        plain=plain,
        margin=margin,
        datasets=dict(datasets),
        arms=tuple(arms),
        friedman_p=friedman_p(ranks),
        critical_difference=difference,
        alike=tuple(tuple(arm.label for arm in arms[low : high + 1]) for low, high in runs),
        pairs=_pairs(scores, labels),
        notes=tuple(notes),
        answer=_answer(arms, metric, datasets, margin),
        moderation=tuple(found for label in variants if (found := moderation(datasets, label))),
    )


def _score(summary: Summary, label: str) -> float:
    score = summary.arm(label).score
    assert score is not None, "arms without a score are left out"
    return summary.metric.gain(score.mean, 0.0)


def _effect(datasets: Mapping[str, Summary], label: str) -> Effect | None:
    """None where a run failed: the others alone are no sample of the arm's runs."""
    compared = [summary.arm(label).against_plain for summary in datasets.values()]
    found = [one for one in compared if one is not None and not one.failed and not one.failed_other]
    if len(found) < len(compared):
        return None
    fitted = random_effect([one.differences for one in found])
    evidence = _evidence(fitted.mean, fitted.error, len(found))
    half = float(np.nan_to_num(inference.half_width(evidence, ALPHA)))
    metric = next(iter(datasets.values())).metric
    return Effect(
        mean=fitted.mean,
        gain=metric.gain(fitted.mean, 0.0),
        error=fitted.error,
        low=fitted.mean - half,
        high=fitted.mean + half,
        p=float(inference.p_value(evidence)),
        p_holm=1.0,
        between_sd=fitted.between_sd,
        within_sd=fitted.within_sd,
    )


def _evidence(mean: float, error: float, count: int) -> inference.Evidence:
    """As of one value a data set, with the mixed model's mean and error."""
    nothing = np.asarray(0.0)
    return inference.Evidence(np.asarray(mean), np.asarray(count), np.asarray(error**2), np.asarray(0), nothing)


def _margin(datasets: Mapping[str, Summary]) -> Margin:
    """The largest of the data sets' own."""
    return max((summary.margin for summary in datasets.values()), key=lambda margin: margin.value or 0.0)


def _judged(
    effects: Sequence[Effect | None], margin: Margin, metric: Metric, sets: int
) -> tuple[list[Effect | None], list[Verdict]]:
    """The effects with corrected p, and their verdicts; all variants are one family, judged at a first look."""
    least = margin.value or 0.0
    fitted = [None if one is None else _evidence(one.mean, one.error, sets) for one in effects]
    same = [1.0 if one is None else float(inference.equivalence_p(one, least)) for one in fitted]
    decision = inference.decide(
        [0.0 if one is None else one.gain for one in effects],
        [1.0 if one is None else one.p for one in effects],
        same,
        least,
        seeds=np.full(len(effects), sets),
        weight=FIRST_LOOK,
    )
    corrected, verdicts = list[Effect | None](), list[Verdict]()
    for effect, number, p in zip(effects, decision.words.tolist(), decision.p_holm.tolist(), strict=True):
        if effect is None:
            corrected.append(None)
            verdicts.append(Verdict("undecided", "undecided", "undecided: runs failed; the data sets' pages say which"))
            continue
        corrected.append(replace(effect, p_holm=p))
        word = "too few data sets" if number == TOO_FEW else inference.WORDS[number]
        verdicts.append(Verdict(word, word, f"{word}: {in_words(effect, metric)}"))
    return corrected, verdicts


def in_words(effect: Effect, metric: Metric) -> str:
    """ "+1.3 points (95 % interval over data sets +0.4 to +2.2)" """
    unit = f" {metric.difference_unit}" if metric.difference_unit else ""
    lower = "; lower is better" if metric.better == "lower" else ""
    mean, low, high = signed(metric, [effect.mean, effect.low, effect.high])
    return f"{mean}{unit} (95 % interval over data sets {low} to {high}{lower})"


def _pairs(scores: NDArray[np.float64], labels: Sequence[str]) -> tuple[tuple[str, str, float], ...]:
    pairs = list(itertools.combinations(range(len(labels)), 2))
    p = inference.holm([float(inference.signed_rank_p(scores[:, a] - scores[:, b])) for a, b in pairs])
    return tuple((labels[a], labels[b], float(value)) for (a, b), value in zip(pairs, p, strict=True))


def _answer(arms: Sequence[RankedArm], metric: Metric, datasets: Mapping[str, Summary], margin: Margin) -> Answer:
    sets, first = len(datasets), next(iter(datasets.values()))
    reference, variants = first.setting.reference, [arm for arm in arms if arm.label != first.plain]
    who = variants[0].label if len(variants) == 1 else f"any of {len(variants)} variants"
    question = f"Does {who} beat {first.plain} in {metric.name} on {sets} data sets?"
    about = (
        "The verdict is about new data sets like these: the interval is that of a mixed model with the data set as "
        "random effect. What holds on one of them stands on its own page."
    )
    waiting = [name for name, summary in datasets.items() if summary.pending]
    if waiting:
        return Answer(question, "Undecided", f"Unfinished: runs are still to be done on {listed(waiting)}.", about)
    told = "; ".join(f"{arm.label}: {in_words(arm.against_plain, metric)}" for arm in variants if arm.against_plain)
    ranking = f"The best mean rank is {arms[0].label}'s, {arms[0].mean_rank:.1f} of {len(arms)}."
    words: dict[str, list[str]] = {}
    for arm in variants:
        words.setdefault(arm.verdict.word, []).append(arm.label)
    settled = [*words.get("equivalent", []), *words.get("worse", [])]
    if sets < LEAST_DATASETS:
        short, text = "Undecided", f"A verdict on new data sets takes {LEAST_DATASETS}; there are {sets}"
    elif "better" in words:
        beat = "beats" if len(words["better"]) == 1 else "beat"
        short, text = "Yes", f"{listed(words['better'])} {beat} {reference} on new data sets"
    elif len(settled) == len(variants) and "worse" in words:
        short, text = "No", f"No variant is better than {reference} on new data sets"
    elif len(settled) == len(variants):
        are = "is" if len(settled) == 1 else "are"
        short, text = "Equivalent", f"{listed(settled)} {are} as good as {reference} to within {margin.text}"
    else:
        short, text = "Not detectably", f"No variant is detectably better than {reference} on new data sets"
    return Answer(question, short, f"{text}{': ' if told else ''}{told}. {ranking}", about)
