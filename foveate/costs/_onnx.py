"""The exported network on onnxruntime: exported, checked against torch, and timed."""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

WANTED = ("onnx", "onnxscript", "onnxruntime")
CLOSE = 1e-3  # of the largest output; what is checked is the graph, not its rounding


def runtime_there() -> None:
    """Raises: ValueError: what exporting and running needs is not installed."""
    if missing := [name for name in WANTED if importlib.util.find_spec(name) is None]:
        raise ValueError(f"target onnxruntime wants {' and '.join(missing)}: pip install 'foveate[export]'")


def exported_step(name: str, model: nn.Module, x: Tensor, folder: Path) -> tuple[Callable[[], object], str]:
    """One pass of the exported network over the batch, and what was found while checking it.

    Raises: ValueError: it cannot be exported, does not run there, or gives other numbers.
    """
    import onnxruntime

    file = folder / f"{len(list(folder.iterdir()))}.onnx"
    try:
        _export(model, x, file)
    except Exception as error:
        raise ValueError(f"{name}: cannot be exported to ONNX: {_first_line(error)}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    here = "CUDAExecutionProvider" if x.is_cuda else "CPUExecutionProvider"
    if here not in onnxruntime.get_available_providers():
        raise ValueError(f"target onnxruntime: the installed one has no {here}, which {x.device} wants")
    try:
        session = onnxruntime.InferenceSession(file, options, providers=[here])
        given = {session.get_inputs()[0].name: x.cpu().numpy()}
        found = session.run(None, given)
    except Exception as error:
        raise ValueError(f"{name}: does not run on onnxruntime: {_first_line(error)}") from error
    with torch.inference_mode():
        wanted = [t.float().cpu() for t in tree_leaves(model(x)) if isinstance(t, Tensor)]
    off = _off(wanted, found)
    if not off <= CLOSE:
        raise ValueError(f"{name}: onnxruntime gives other numbers than torch, off by {off:.1e} of the largest")
    return lambda: session.run(None, given), f"exported and checked: onnxruntime is off by {off:.1e} of the largest"


def _off(wanted: list[Tensor], found: list[Any]) -> float:
    """The largest difference, in units of the largest output."""
    pairs = zip(wanted, found, strict=True)
    return max(float((a - torch.as_tensor(b).float()).abs().max() / a.abs().max().clamp_min(1e-12)) for a, b in pairs)


def _export(model: nn.Module, x: Tensor, file: Path) -> None:
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (x,), file, dynamo=True, verbose=False)
    finally:
        quiet.setLevel(level)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
