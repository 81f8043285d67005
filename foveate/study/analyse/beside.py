"""What an answer is made of, and the lines beside it: what it is about, what few runs leave open, what looks cost."""

from collections.abc import Mapping
from dataclasses import dataclass

from foveate.spec import LEAST_SEEDS, Metric
from foveate.study.analyse.inference import failure_bound
from foveate.study.analyse.words import listed
from foveate.summary import ALPHA, ArmSummary, Claimed, Comparison, Ledger, Margin, SeedsCanShow, Setting

NAMED = 5  # seeds and arms that are to do


@dataclass(frozen=True)
class Judged:
    """What an answer is made of.

    looks: numbers of seeds at each look, this one last; weight: what this one may spend. grouped: are items resampled
    in groups? verbs: how the runs of an arm failed, by label. runs: planned, of all arms. pending: label and seed of
    those not done.
    """

    setting: Setting
    metric: Metric
    margin: Margin
    arms: tuple[ArmSummary, ...]
    primary: tuple[Claimed, ...]
    planner: SeedsCanShow
    ledger: Ledger
    looks: tuple[int, ...]
    weight: float
    grouped: bool
    verbs: Mapping[str, str]
    runs: int
    pending: tuple[tuple[str, int], ...]
    dropped: tuple[str, ...]


def about(judged: Judged) -> str:
    """One sentence: which population the verdict is about, and what share of the variance each source has."""
    found = [one for arm in judged.arms if arm.kind == "attention" for one in (arm.against_plain,) if one]
    if not found or judged.pending:
        return ""
    items = max(one.items for one in found)
    if judged.setting.overlap:
        return _about_divisions(found)
    if not items:
        one = [arm for arm in judged.arms if arm.items and arm.items.items == 1]
        if one:
            return "The verdict is about new seeds on this one test item: what other items would change is not known."
        return (
            "The verdict is about new seeds on these very test items: there are no scores of single items, so what "
            "other items would change is not known."
        )
    shares = [one.item_share for one in found if one.item_share is not None]
    whence = ""
    if shares:
        low, high = round(100 * min(shares)), round(100 * max(shares))
        of_items = f"{low}" if low == high else f"{low} to {high}"
        of_seeds = f"{100 - low}" if low == high else f"{100 - high} to {100 - low}"
        what = "groups of items" if judged.grouped else "items"
        whence = f"; {of_seeds} % of the variance of its differences comes from seeds, {of_items} % from the "
        whence += f"{items:,} {what}"
    some = "" if all(one.items for one in found if one.runs >= LEAST_SEEDS) else ", where their scores are known"
    new = "new groups of test items" if judged.grouped else "new test items"
    return f"The verdict is about new seeds and {new} alike{some}{whence}."


def _about_divisions(found: list[Comparison]) -> str:
    """The same where each seed has its own division. Seeds and training items are drawn at once and vary as one."""
    overlaps = [one.overlap / (one.overlap + 1 / len(one.seeds)) for one in found]
    sampled = [
        (1 - shared) * one.sampled_share
        for shared, one in zip(overlaps, found, strict=True)
        if one.sampled_share is not None
    ]
    rest = 1 - sum(overlaps) / len(overlaps)
    items = sum(sampled) / len(sampled) if sampled else None
    of_items = "" if items is None else f", {100 * items:.0f} % from the test items"
    drawn = "seeds and training items" if items is not None else "seeds, training and test items"
    return (
        "The verdict is about new seeds, new divisions and new items alike: each seed draws its own training and test "
        f"items; {100 * (rest - (items or 0)):.0f} % of the variance of its differences comes from {drawn}, drawn at "
        f"once{of_items}, and {100 * (1 - rest):.0f} % is added for what divisions of the same items share."
    )


def to_do(pending: tuple[tuple[str, int], ...]) -> str:
    """ "se at seeds 3 and 4, eca at seed 4" """
    seeds: dict[str, list[str]] = {}
    for label, seed in pending:
        seeds.setdefault(label, []).append(str(seed))
    told = [
        f"{label} at seed{'s' if len(of_arm) > 1 else ''} "
        + (listed(of_arm) if len(of_arm) <= NAMED else f"{', '.join(of_arm[:NAMED])} and {len(of_arm) - NAMED} more")
        for label, of_arm in seeds.items()
    ]
    return ", ".join(told[:NAMED]) + (f" and {len(told) - NAMED} arms more" if len(told) > NAMED else "")


def risk(judged: Judged) -> str:
    """The rule of three: what the number of runs leaves open about runs that fail."""
    ran = [(arm, len(runs)) for arm in judged.arms if arm.kind == "attention" and (runs := outcomes(arm))]
    if not ran or judged.pending:
        return ""
    worst, count = max(ran, key=lambda one: len(one[0].failed))
    if worst.failed:
        bound = failure_bound(len(worst.failed), count)
        share = "all" if bound >= 1 else f"up to {100 * bound:.0f} %"
        return (
            f"Of {count} runs of {worst.label} {len(worst.failed)} failed: {share} of its runs may fail (95 % bound)."
        )
    fewest = min(count for _, count in ran)
    return (
        f"No run of a variant failed; with {fewest} run{'s' if fewest > 1 else ''} each, a variant that fails or "
        f"collapses in up to {100 * failure_bound(0, fewest):.0f} % of its runs is not excluded (95 % bound)."
    )


def looks(judged: Judged) -> str:
    """How often the study was judged, and what that costs; "" for a first look that nothing was declared for."""
    most, looks = judged.ledger.most, judged.looks
    if judged.pending or (most is None and len(looks) == 1):
        return ""
    spent = (
        f"this look may spend {100 * judged.weight:.0f} % of the error rate of {ALPHA:g}, all looks together no more"
    )
    seen = f"judged at {listed([str(look) for look in looks])} seeds"
    if most is None:
        return f"Seeds or claims were added after looking, {seen}: {spent} than all of it."
    added = "Seeds were added under a rule" if len(looks) > 1 else "Seeds are added under a rule"
    return f"{added} that declared at most {most} seeds before the first look, {seen}: {spent} than all of it."


def outcomes(arm: ArmSummary) -> set[int]:
    """Seeds whose run has finished or failed."""
    return {*arm.failed, *(arm.score.seeds if arm.score else ())}
