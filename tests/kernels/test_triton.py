"""The Triton forms, run in a process of their own, which without a GPU has the interpreter switched on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from foveate.kernels import gate_map
from foveate.kernels._triton import HAS_TRITON, why_not_start


def why_not():
    if not HAS_TRITON:
        return "triton is not installed"
    import triton

    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version < (3, 7) and not torch.cuda.is_available():
        return f"the interpreter of Triton {triton.__version__} asks what NumPy {np.__version__} deprecates or refuses"
    return None


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_triton_forms_are_no_further_from_float64_than_twice_plain_torch():
    file = Path(__file__).with_name("triton_forms.py")
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
        cwd=file.parents[2],
        env={**os.environ, **interpreted},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_triton_says_why_it_cannot_run_on_a_cpu():
    with pytest.raises(RuntimeError, match=r"gate_map\(impl='triton'\): triton needs a CUDA tensor, got one on cpu"):
        gate_map(torch.ones(1, 2, 3, 3), channel=torch.ones(1, 2), impl="triton")


def test_triton_says_in_one_line_why_it_cannot_start():
    reason = why_not_start()
    assert (reason is None) == (HAS_TRITON and torch.cuda.is_available())
    assert reason is None or (reason.startswith("triton ") and "\n" not in reason)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_for_a_gpu_says_that_there_is_none():
    file = Path(__file__).parents[2] / "benchmarks" / "kernels_cuda.py"
    ran = subprocess.run([sys.executable, str(file)], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "kernels_cuda.py: needs a CUDA device; torch sees none\n"
