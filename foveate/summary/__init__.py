"""The summary of a study as frozen values: the analysis writes it, the report, the pages and `--json` read it.

Scores and differences are in the metric's own unit, ours minus theirs; times are milliseconds. Everything called `text`
or `short` is ready to print. None stands for a number that does not exist.
"""

from foveate.summary.findings import (
    ALPHA,
    SCHEMA,
    Answer,
    ArmSummary,
    Claimed,
    Comparison,
    CostChange,
    CostMatch,
    CurvePoint,
    Estimate,
    Interval,
    ItemComparison,
    Margin,
    Ratio,
    SeedsCanShow,
    SeedStep,
    Summary,
    Verdict,
)
from foveate.summary.rows import (
    Arm,
    Claim,
    Cost,
    Failure,
    Kind,
    Ledger,
    Logged,
    Look,
    Score,
    Setting,
    Times,
)
from foveate.summary.shown import (
    signed,
    size_of,
    to_json,
)

__all__ = [
    "ALPHA",
    "SCHEMA",
    "Answer",
    "Arm",
    "ArmSummary",
    "Claim",
    "Claimed",
    "Comparison",
    "Cost",
    "CostChange",
    "CostMatch",
    "CurvePoint",
    "Estimate",
    "Failure",
    "Interval",
    "ItemComparison",
    "Kind",
    "Ledger",
    "Logged",
    "Look",
    "Margin",
    "Ratio",
    "Score",
    "SeedStep",
    "SeedsCanShow",
    "Setting",
    "Summary",
    "Times",
    "Verdict",
    "signed",
    "size_of",
    "to_json",
]
