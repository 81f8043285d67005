"""A search for what to insert where, by successive halving, confirmed on fresh seeds and the untouched test part."""

from foveate.study.advise.budget import LatencyBudget, latency_budget
from foveate.study.advise.halving import Schedule, largest_schedule, schedule
from foveate.study.advise.search import Record, search
from foveate.study.advise.space import Space, given_mechanisms, places_of, require_optuna
from foveate.study.advise.studies import Studies

__all__ = [
    "LatencyBudget",
    "Record",
    "Schedule",
    "Space",
    "Studies",
    "given_mechanisms",
    "largest_schedule",
    "latency_budget",
    "places_of",
    "require_optuna",
    "schedule",
    "search",
]
