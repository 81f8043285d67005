"""Attention in any network: find the places, put modules there, take them out again.

    sites(model, example)                       places, found by looking
    insert(model, "cbam", at="block", example=x)  in place
    remove(model)                               as it was, bit for bit

Knows no mechanism and no network by name.
"""

from foveate.insertion._attach import Blend
from foveate.insertion._insert import insert, inserted, remove, sites
from foveate.insertion._report import Placement, Report, format_sites
from foveate.insertion._sites import Site

__all__ = ["Blend", "Placement", "Report", "Site", "format_sites", "insert", "inserted", "remove", "sites"]
