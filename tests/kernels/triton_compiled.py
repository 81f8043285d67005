"""Compiles what the Triton forms launch, for GPUs that need not be there: the real dispatch and compiler, no launch.

python triton_compiled.py ARCH DTYPE few|all: runs the primitives (all: and the mechanisms, in every layout and with
every option) on CPU tensors, forward and backward, with a stand-in for a GPU of that architecture, and writes
a line of JSON for each kernel and set of types that it compiles: registers, bytes of spilled ones, bytes of shared
memory. What the passes would have written is left as torch.empty gives it.
"""

import json
import subprocess
import sys
import tempfile
from itertools import combinations
from types import SimpleNamespace

import torch
import triton
from attention_cases import CASES as MECHANISMS
from attention_cases import build
from kernel_cases import CASES
from triton.backends.compiler import GPUTarget

from foveate.kernels import _dispatch, attention_pool, gate_map, gate_strips, global_pool, pool_strips, sge_gate
from foveate.kernels.pools.global_pool import KINDS

# Tiles full and cut off in both directions, planes and maps of one number, strides that are multiples of 16 or not.
SHAPES = [(2, 64, 56, 56), (2, 24, 7, 7), (1, 1, 1, 1), (3, 2, 1, 1), (1, 6, 33, 40)]


class Absent:
    """A driver of Triton for a GPU that is not there: kernels are compiled for it and not launched."""

    def __init__(self, arch):
        self.target = GPUTarget("cuda", arch, 32)
        self.utils = SimpleNamespace(
            load_binary=self.load_binary,
            get_device_properties=lambda _: {"max_shared_mem": 100 << 10},
            unload_module=lambda _: None,
        )
        self.compiled = set()

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return self.target

    def launcher_cls(self, source, metadata):
        self.loading = source
        return lambda *_: None

    def load_binary(self, name, binary, shared, device):
        kernel, types = f"{self.loading.fn.__module__}.{name}", " ".join(map(str, self.loading.signature.values()))
        registers, spilled = resources(binary)
        used = {"kernel": kernel, "types": types, "registers": registers, "spilled": spilled, "shared": shared}
        sys.stdout.write(json.dumps(used) + "\n")
        self.compiled.add(kernel)
        return name, name, registers, spilled, 1024  # the most threads of a block


def resources(binary):
    """Registers, and bytes of the stack, where spilled ones go."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    used = dict(word.split(":")[:2] for word in words if word.startswith(("REG:", "STACK:")))
    return int(used["REG"]), int(used["STACK"])


def subsets(values):
    return [chosen for size in range(len(values) + 1) for chosen in combinations(values, size)]


def laid(x, last):
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x


def step(run, given, chosen):
    """Forward, and backward to the chosen inputs."""
    inputs = [t.detach().requires_grad_(k in chosen) for k, t in enumerate(given)]
    outputs = [y for y in run(*inputs) if y.requires_grad]
    if outputs:
        torch.autograd.backward(outputs, [torch.ones_like(y) for y in outputs])


def primitives(shape, dtype, last):
    """Every primitive, and those with options with each set of them: a function and its inputs."""
    for case in CASES:
        x, *others = (t.to(dtype) for t in case.inputs(shape))
        if case.name != "conv_to_one":  # which has no Triton form
            yield lambda *inputs, case=case: case.run("triton", *inputs), [laid(x, last), *others]
    x = laid(torch.randn(shape, dtype=dtype), last)
    for kinds in subsets(KINDS):
        yield lambda x, kinds=kinds: global_pool(x, kinds), [x]
    gates = {"channel": x[:, :, 0, 0], "position": x[:, 0], "added": x[:, :, 0, 0], "residual": x}
    for names in subsets(gates):
        given = [x, *(gates[name] for name in names)]
        for end in (None, "relu"):
            yield (
                lambda x, *given, names=names, end=end: [
                    gate_map(x, activation=end, **dict(zip(names, given, strict=True)))
                ],
                given,
            )


def mechanisms(dtype, last):
    for case in MECHANISMS:
        if case.inputs == "x" and case.home == 2:
            x = laid(torch.randn(2, case.channels, 14, 14, dtype=dtype), last)
            for options in case.variants:
                module = build(case, options).to(dtype)
                yield lambda x, module=module: [module(x)], [x]


def wide(dtype):
    """What takes whole rows or whole groups of channels at a time."""
    x = torch.randn(1, 2, 3, 8000, dtype=dtype)
    yield lambda x: [gate_strips(x, *pool_strips(x))], [x]
    for channels in (500, 2000):
        x = x.reshape(1, channels, -1)
        yield lambda x, w: [sge_gate(x, w[:1], w[:1])], [x, x[0, :, 0]]
        yield lambda x, w: [attention_pool(x, w, w[:1])[0]], [x, x[0, :, 0]]


def main(arch, dtype, few):
    driver = Absent(arch)
    triton.runtime.driver.set_active(driver)
    _dispatch.INTERPRETED, _dispatch.PREFERRED = True, {"cpu": "triton"}
    for last in (False, True):
        for shape in SHAPES[:1] if few else SHAPES:
            for run, given in primitives(shape, dtype, last):
                everything = range(len(given))
                for chosen in [everything] if few else subsets(everything):
                    step(run, given, chosen)
        for run, given in [] if few else [*mechanisms(dtype, last), *wide(dtype)]:
            step(run, given, [])
            step(run, given, [0])
    modules = [module for name, module in sys.modules.items() if name.startswith("foveate.kernels.")]
    kernels = [value for module in modules for value in vars(module).values() if isinstance(value, triton.JITFunction)]
    names = {f"{kernel.__module__}.{kernel.__name__}" for kernel in kernels if kernel.__name__.endswith("_kernel")}
    if never := names - driver.compiled:
        raise SystemExit(f"never launched: {', '.join(sorted(never))}")


if __name__ == "__main__":
    main(int(sys.argv[1]), getattr(torch, sys.argv[2]), sys.argv[3] == "few")
