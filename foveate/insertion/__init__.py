"""Attention in any network: find the places, put modules there, take them out again.

    sites(model, example)                       places, found by looking
    insert(model, "cbam", at="block", example=x)  in place
    remove(model)                               as it was, bit for bit

Knows no mechanism and no network by name.
"""

from foveate.insertion._attach import Blend
from foveate.insertion._insert import draw, insert, inserted, remove, sites
from foveate.insertion._recipe import insert_again, insertions
from foveate.insertion._report import Placement, Report, format_sites
from foveate.insertion._sites import Site
from foveate.insertion._tuning import parameter_groups, unfreeze

__all__ = [
    "Blend",
    "Placement",
    "Report",
    "Site",
    "draw",
    "format_sites",
    "insert",
    "insert_again",
    "inserted",
    "insertions",
    "parameter_groups",
    "remove",
    "sites",
    "unfreeze",
]
