"""When a study that adds seeds by itself may stop: the rule that `--until decided` follows.

Looking is safe because each look spends its own share of the error rate (`inference.look_weight`); the rule may stop
whenever it likes.
"""

from foveate.summary import Summary

LOOKS = (3, 5, 8, 10, 15, 20)  # seeds; above by a third each
SETTLED = {"better", "worse", "equivalent", "identical"}


def next_look(seeds: int, most: int) -> int | None:
    """The number of seeds at which to look next; None where the most have been run.

    Few looks cost less than one after every seed, as each spends a share of the error rate.
    """
    if seeds >= most:
        return None
    further = next((look for look in LOOKS if look > seeds), None) or seeds + max(1, seeds // 3)
    return min(further, most)


def decided(summary: Summary, most: int | None = None) -> bool:
    """May the study stop? When every claim has its verdict, or `most` seeds have been run.

    A claim that failed runs keep from a verdict stays open. A study with runs to do is never decided.
    """
    if summary.pending:
        return False
    if most is not None and len(summary.setting.seeds) >= most:
        return True
    arms = [arm for arm in summary.arms if arm.kind == "attention"]
    found = [one for arm in arms for one in (arm.against_plain, arm.against_control) if one and one.comparisons]
    found += [one.found for one in summary.primary if one.found]
    return bool(found) and all(one.word in SETTLED for one in found) and _nobody_is_missing(summary)


def _nobody_is_missing(summary: Summary) -> bool:
    """Has every variant that the study is judged by a comparison?"""
    if summary.primary:
        return all(one.found for one in summary.primary)
    return all(arm.against_plain for arm in summary.arms if arm.kind == "attention")
