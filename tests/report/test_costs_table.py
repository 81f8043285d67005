"""The line below the table of costs contradicts no row of it."""

import pytest

from foveate.report.costs import _ranking


@pytest.mark.parametrize(
    ("order", "alike", "text"),
    [
        (["none", "se"], [], "none, se"),
        (["none", "se"], [("none", "se")], "none, se; not distinguishable: none and se"),
        (["none", "se", "eca"], [], "none, se, eca; each differs from every other"),
        (
            ["none", "se", "eca"],
            [("none", "se"), ("se", "eca")],
            "none, se, eca; not distinguishable: none and se, se and eca",
        ),
        (
            ["none", "se", "eca"],
            [("none", "se"), ("se", "eca"), ("none", "eca")],
            "none, se, eca; no two are distinguishable",
        ),
    ],
)
def test_the_ranking_names_the_pairs_whose_order_is_not_sure(order, alike, text):
    assert _ranking({"order": order, "alike": alike}) == f"fastest to slowest, by median: {text}"
