"""The plug-in mechanisms: one paper, one file, each registered under the name that `create_attention` takes."""

from foveate.attention._capture import Rows, Seen, capture, record
from foveate.attention._registry import (
    Deviation,
    Facts,
    UnknownNameError,
    attention_class,
    attention_facts,
    attention_options,
    check_options,
    create_attention,
    list_attention,
    register_attention,
)
from foveate.attention.drsn import soft_threshold

__all__ = [
    "Deviation",
    "Facts",
    "Rows",
    "Seen",
    "UnknownNameError",
    "attention_class",
    "attention_facts",
    "attention_options",
    "capture",
    "check_options",
    "create_attention",
    "list_attention",
    "record",
    "register_attention",
    "soft_threshold",
]
