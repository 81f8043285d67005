"""Primitives over feature maps: one a file, the reference in plain torch first, then C passes, Triton passes, dispatch.

    gates/     factors for channels and positions; the gates of SGE, SA and soft thresholds
    pools/     over positions, over channels, by attention weights
    pairs/     attention over pairs of tokens
    fused/     whole mechanisms in one C call
    gradient/  the gradient of a map with several readers, collected from them and written once
    strips.py, branches.py, conv_to_one.py    coordinate attention, selective kernels, CBAM's convolution
    native/    the C sources; _native.py compiles them, _calls.py checks arguments and calls them

`impl=None` takes the fastest form that can run; `impl="reference"`, `"cpu"` or `"triton"` takes that form or raises an
error with the reason. `attend` and `sum_relu` have forms of other names.
"""

from foveate.kernels import _counts  # noqa: F401  registers the costs of the passes
from foveate.kernels._dispatch import why_not
from foveate.kernels.branches import accumulate_branch_gradients, mix_branches, pool_branches
from foveate.kernels.conv_to_one import conv_to_one
from foveate.kernels.fused.convolve_channels import convolve_channels
from foveate.kernels.fused.squeeze_excite import squeeze_excite
from foveate.kernels.gates.gate_map import gate_map
from foveate.kernels.gates.sa_gate import sa_gate
from foveate.kernels.gates.sge_gate import sge_gate
from foveate.kernels.gates.shrink import shrink
from foveate.kernels.gradient.accumulator import AccumulatedMap, accumulate_gradient
from foveate.kernels.pairs.attend import attend, attention_weights
from foveate.kernels.pairs.sum_relu import sum_relu
from foveate.kernels.pools.attention_pool import attention_pool
from foveate.kernels.pools.channel_pool import channel_pool
from foveate.kernels.pools.global_pool import global_pool
from foveate.kernels.strips import gate_strips, pool_strips

__all__ = [
    "AccumulatedMap",
    "accumulate_branch_gradients",
    "accumulate_gradient",
    "attend",
    "attention_pool",
    "attention_weights",
    "channel_pool",
    "conv_to_one",
    "convolve_channels",
    "gate_map",
    "gate_strips",
    "global_pool",
    "mix_branches",
    "pool_branches",
    "pool_strips",
    "sa_gate",
    "sge_gate",
    "shrink",
    "squeeze_excite",
    "sum_relu",
    "why_not",
]
