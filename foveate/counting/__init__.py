"""What the operators of one forward pass compute, move and keep: counted where they are dispatched.

    found = count(model, x)      rows, an operator each; sums over all, an operator, a module, a stage
    found.macs, found.unknown    multiply-adds (one FLOP pair each); operators nothing is known of, never counted as 0

Knows no network, no mechanism and no kernel by name. An operator of one's own says what it computes with
`register_operator`.
"""

from foveate.counting.inputs import Batch, batch_size, call, first_samples, first_tensor, placed, repeated
from foveate.counting.lateral import KeptMap, Skips, passes, skips
from foveate.counting.rows import Count, Kept, Row, Sums
from foveate.counting.traffic import storage_of, tensors_in
from foveate.counting.watch import Watch, count, module_paths, out_of_memory
from foveate.counting.work import Work, register_operator
from foveate.counting.zeros import macs_on_zeros

__all__ = [
    "Batch",
    "Count",
    "Kept",
    "KeptMap",
    "Row",
    "Skips",
    "Sums",
    "Watch",
    "Work",
    "batch_size",
    "call",
    "count",
    "first_samples",
    "first_tensor",
    "macs_on_zeros",
    "module_paths",
    "out_of_memory",
    "passes",
    "placed",
    "register_operator",
    "repeated",
    "skips",
    "storage_of",
    "tensors_in",
]
