"""Studies: plan → run → store → analyse."""

from foveate.study.analyse import what_seeds_can_show
from foveate.study.checks import check_names
from foveate.study.results import status, summarise
from foveate.study.run import Watcher, run_study
from foveate.study.trained import load

__all__ = ["Watcher", "check_names", "load", "run_study", "status", "summarise", "what_seeds_can_show"]
