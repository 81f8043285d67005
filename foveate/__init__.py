"""foveate: attention for computer vision. Does it help my network, on my data, which kind, where, and at what cost?

Importing this package starts nothing; each name below is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from foveate import explain, official
    from foveate.attention import capture, create_attention, list_attention, register_attention
    from foveate.compress import prune
    from foveate.costs import cost
    from foveate.data import register_data
    from foveate.insertion import insert, inserted, parameter_groups, remove, sites, unfreeze
    from foveate.networks import build_network, create_network, list_networks
    from foveate.saving import save
    from foveate.spec import Metric, Study
    from foveate.study import compare, load, run_study
    from foveate.tasks import register_task

_HOME = {
    "Metric": "foveate.spec",
    "Study": "foveate.spec",
    "build_network": "foveate.networks",
    "capture": "foveate.attention",
    "compare": "foveate.study",
    "cost": "foveate.costs",
    "create_attention": "foveate.attention",
    "create_network": "foveate.networks",
    "insert": "foveate.insertion",
    "inserted": "foveate.insertion",
    "list_attention": "foveate.attention",
    "list_networks": "foveate.networks",
    "load": "foveate.study",
    "parameter_groups": "foveate.insertion",
    "prune": "foveate.compress",
    "register_attention": "foveate.attention",
    "register_data": "foveate.data",
    "register_task": "foveate.tasks",
    "remove": "foveate.insertion",
    "run_study": "foveate.study",
    "save": "foveate.saving",
    "sites": "foveate.insertion",
    "unfreeze": "foveate.insertion",
}

__all__ = [
    "Metric",
    "Study",
    "build_network",
    "capture",
    "compare",
    "cost",
    "create_attention",
    "create_network",
    "explain",
    "insert",
    "inserted",
    "list_attention",
    "list_networks",
    "load",
    "official",
    "parameter_groups",
    "prune",
    "register_attention",
    "register_data",
    "register_task",
    "remove",
    "run_study",
    "save",
    "sites",
    "unfreeze",
]


def __getattr__(name: str) -> Any:
    if name in ("explain", "official"):
        return importlib.import_module(f"foveate.{name}")
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'foveate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
