"""Every Triton kernel, with the arguments that the forms launch it with, through Triton's compiler for NVIDIA GPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from foveate.kernels._triton import HAS_TRITON

ALL = [
    pytest.param(arch, dtype, "all", marks=pytest.mark.slow)
    for arch in (80, 90)
    for dtype in ("float32", "bfloat16", "float16")
]


@pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
@pytest.mark.parametrize(("arch", "dtype", "how_many"), [(90, "bfloat16", "few"), *ALL])
def test_triton_kernels_compile_for_gpus_and_keep_to_their_registers(arch, dtype, how_many, tmp_path):
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    ran = subprocess.run(
        [sys.executable, str(tests / "kernels" / "triton_compiled.py"), str(arch), dtype, how_many],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    compiled = [json.loads(line) for line in ran.stdout.splitlines()]
    assert compiled
    assert [kernel for kernel in compiled if kernel["spilled"] > 32] == []
