"""Fused passes over feature maps: a primitive a file, its meaning in plain torch first, its quick forms after it.

`impl=None` takes the quickest form that can run, `impl="reference"`, `"cpu"` or `"triton"` that form or an error that
says why not. `attend` and `sum_relu`, over pairs of tokens, have forms of other names.
"""

from foveate.kernels import _counts  # noqa: F401  says what the passes compute
from foveate.kernels._dispatch import IMPLS, why_not
from foveate.kernels.attend import attend, attention_weights
from foveate.kernels.convolve_channels import convolve_channels
from foveate.kernels.convolve_few import LARGEST_KERNEL, convolve_few
from foveate.kernels.gate_map import gate_map
from foveate.kernels.likeness_gate import likeness_gate
from foveate.kernels.mix_branches import mix_branches, pool_branches, share_branches
from foveate.kernels.pool_attended import pool_attended
from foveate.kernels.pool_channels import pool_channels
from foveate.kernels.pool_planes import pool_planes
from foveate.kernels.shared import Shared, share
from foveate.kernels.shuffle_gate import shuffle_gate
from foveate.kernels.soft_threshold import soft_threshold
from foveate.kernels.squeeze_excite import squeeze_excite
from foveate.kernels.strips import gate_strips, pool_strips
from foveate.kernels.sum_relu import sum_relu

__all__ = [
    "IMPLS",
    "LARGEST_KERNEL",
    "Shared",
    "attend",
    "attention_weights",
    "convolve_channels",
    "convolve_few",
    "gate_map",
    "gate_strips",
    "likeness_gate",
    "mix_branches",
    "pool_attended",
    "pool_branches",
    "pool_channels",
    "pool_planes",
    "pool_strips",
    "share",
    "share_branches",
    "shuffle_gate",
    "soft_threshold",
    "squeeze_excite",
    "sum_relu",
    "why_not",
]
