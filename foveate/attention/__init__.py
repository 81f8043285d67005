"""The attention mechanisms: one paper a file, each registered under the name that `create_attention` takes."""

from foveate.attention._capture import Captured, LazyAffinity, capture, record
from foveate.attention._controls import PositionwiseLayer, Shuffled
from foveate.attention._hard import has_hard_gates
from foveate.attention._registry import (
    ATTENTION,
    DOMAINS,
    LEAST_UNITS,
    Deviation,
    Facts,
    Made,
    attention_class,
    attention_facts,
    attention_options,
    check_attention_options,
    create_attention,
    list_attention,
    made_by,
    register_attention,
    too_narrow,
)
from foveate.attention.drsn import soft_threshold
from foveate.registry import UnknownNameError

__all__ = [
    "ATTENTION",
    "DOMAINS",
    "LEAST_UNITS",
    "Captured",
    "Deviation",
    "Facts",
    "LazyAffinity",
    "Made",
    "PositionwiseLayer",
    "Shuffled",
    "UnknownNameError",
    "attention_class",
    "attention_facts",
    "attention_options",
    "capture",
    "check_attention_options",
    "create_attention",
    "has_hard_gates",
    "list_attention",
    "made_by",
    "record",
    "register_attention",
    "soft_threshold",
    "too_narrow",
]
