"""The comparisons that a study is judged by where it names none; the ledger remembers the same ones."""

from collections.abc import Sequence

from foveate.summary import Arm, Claim


def default_claims(arms: Sequence[Arm]) -> tuple[Claim, ...]:
    """Each variant against plain, then each that has a control against it."""
    controlled = {variant for arm in arms for variant in arm.matches}
    variants = [arm.label for arm in arms if arm.kind == "attention"]
    against_plain = [Claim(label, "plain") for label in variants]
    return (*against_plain, *(Claim(label, "control") for label in variants if label in controlled))
