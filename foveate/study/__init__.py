"""Studies: plan → run → store → analyse. Each name is imported at its first use: reading results needs no torch."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.study.analyse import what_seeds_can_show
    from foveate.study.checks import check_names
    from foveate.study.results import status, summarise
    from foveate.study.results_table import compare
    from foveate.study.run import Watcher, run_study
    from foveate.study.trained import load

_HOME = {
    "Watcher": "run",
    "check_names": "checks",
    "compare": "results_table",
    "load": "trained",
    "run_study": "run",
    "status": "results",
    "summarise": "results",
    "what_seeds_can_show": "analyse",
}

__all__ = [
    "Watcher",
    "check_names",
    "compare",
    "load",
    "run_study",
    "status",
    "summarise",
    "what_seeds_can_show",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"foveate.study.{_HOME[name]}"), name)
    raise AttributeError(f"module 'foveate.study' has no attribute {name!r}")
