"""Attention in any network: find the places, put modules there, take them out again.

    sites(model, example)                       places, found by running the model once
    insert(model, "cbam", at="block", example=x)  in place
    remove(model)                               the model of before, bit for bit

Knows no mechanism and no network by name.
"""

from foveate.insertion.blend import Blend
from foveate.insertion.build import insertions, reinsert
from foveate.insertion.operations import draw, freeze, insert, inserted, remove, sites
from foveate.insertion.report import Placement, Report, format_sites
from foveate.insertion.site import Site
from foveate.insertion.tuning import mark_fresh, parameter_groups, unfreeze

__all__ = [
    "Blend",
    "Placement",
    "Report",
    "Site",
    "draw",
    "format_sites",
    "freeze",
    "insert",
    "inserted",
    "insertions",
    "mark_fresh",
    "parameter_groups",
    "reinsert",
    "remove",
    "sites",
    "unfreeze",
]
