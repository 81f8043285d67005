"""Memory: the peak of one pass, and batches that do not fit.

The peak is that above the state before the pass: by the allocator on a GPU, in a fresh process on a CPU. In the
process, large blocks go back to the system as soon as they are freed, so that its resident size is what is in use;
parameters come without their values, which memory does not ask for. Too large a batch is caught before the machine runs
out, and halved.
"""

import contextlib
import ctypes
import gc
import importlib.util
import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from foveate.costs.latency import forward_step, training_step
from foveate.costs.setting import Setting
from foveate.counting import Batch, first_tensor, out_of_memory

MIB = 2**20
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}


Peaks = dict[str, tuple[float | str, ...]]


def start_measuring_peaks(
    models: Mapping[str, nn.Module], x: Batch, setting: Setting, *, training: bool
) -> Callable[[], Peaks]:
    """Start measuring; returns a function that waits for the result: name → MiB of a forward pass, then of a training
    step if `training`.

    The weights and the batch are in memory before; what is counted is what a pass takes on top at its fullest. A text
    in the place of a number is the reason why there is none.
    """
    device = first_tensor(x).device
    if device.type == "cuda":
        found = {name: _measured(model, x, setting, training, _on_gpu) for name, model in models.items()}
        return lambda: found
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        reason = f"peak memory is measured on CUDA and on Linux CPUs; got {device.type} on {sys.platform}"
        return lambda: dict.fromkeys(models, (reason,) * (1 + training))
    return _start_process(models, x, setting, training)


def _start_process(models: Mapping[str, nn.Module], x: Batch, setting: Setting, training: bool) -> Callable[[], Peaks]:
    found: Peaks = {}
    folder = tempfile.TemporaryDirectory(prefix="foveate-peak-")
    root = Path(folder.name)
    packed: dict[str, int] = {}
    files: dict[str, str] = {}
    for number, (name, model) in enumerate(models.items()):
        try:
            files |= _files(model)
            (root / f"{number}.pickle").write_bytes(_pack(model))
            packed[name] = number
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            found[name] = (f"the network cannot be sent to a process of its own: {error}",) * (1 + training)
    torch.save((x, setting, training), root / "batch.pt")
    task = {"models": [*packed.values()], "path": sys.path, "files": files, "threads": torch.get_num_threads()}
    (root / "task.json").write_text(json.dumps(task), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import work; work()", str(root)],
        env={**os.environ, **MALLOC, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def wait() -> Peaks:
        with folder:
            try:
                _, errors = process.communicate()
            except BaseException:  # the user's Ctrl-C
                process.kill()
                process.wait()
                raise
            written = root / "result.json"
            results = json.loads(written.read_text(encoding="utf-8")) if written.is_file() else {}
        last = (errors.strip().splitlines() or ["no message"])[-1]
        died = f"the process that measures peak memory ended with {process.returncode}: {last}"
        for name, number in packed.items():
            found[name] = tuple(results.get(str(number), [died] * (1 + training)))
        return {name: found[name] for name in models}

    return wait


class _Pickler(pickle.Pickler):
    """Leaves out what parameters hold."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, nn.Parameter) and type(obj) is nn.Parameter:
            return _blank, (tuple(obj.shape), obj.stride(), obj.dtype, obj.requires_grad)
        return NotImplemented


def _blank(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, requires_grad: bool) -> nn.Parameter:
    values = torch.empty_strided(shape, stride, dtype=dtype)
    return nn.Parameter(values.fill_(0.01), requires_grad=requires_grad)


def _pack(model: nn.Module) -> bytes:
    if here := sorted({type(m).__name__ for m in model.modules() if type(m).__module__ == "__main__"}):
        raise TypeError(f"{here[0]} is defined in the running script; import it from a file of its own")
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(model)
    return buffer.getvalue()


def _files(model: nn.Module) -> dict[str, str]:
    """The files of modules whose classes cannot be imported by name: a network's own file, a script."""
    found = {}
    for module in {type(m).__module__ for m in model.modules()}:
        file = getattr(sys.modules.get(module), "__file__", None)
        if file and PathFinder.find_spec(module.partition(".")[0]) is None:
            found[module] = file
    return found


def _measured(
    model: nn.Module, x: Batch, setting: Setting, training: bool, meter: Callable[[Callable[[], object]], float]
) -> tuple[float | str, ...]:
    """Each pass once to warm up, once measured."""
    found: list[float | str] = []
    steps: list[Callable[[], object]] = [forward_step(model.eval(), x)]
    if training:
        steps.append(training_step(model, model, x))
    for step in steps:
        try:
            with within_memory(), setting.numbers(first_tensor(x).device):
                step()
                found.append(meter(step))
        except Exception as error:  # whatever the network raises is the reason
            what = " ".join(str(error).split()) or type(error).__name__
            found.append("out of memory" if out_of_memory(error) else what)
    return tuple(found)


def _on_gpu(step: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    gc.collect()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / MIB


def _on_cpu(step: Callable[[], object]) -> float:
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = own_memory("VmRSS") or 0
    step()
    return max(0, (own_memory("VmHWM") or 0) - before) / MIB


def work() -> None:
    """The process: reads models and batch from the folder it is given, writes result.json into it."""
    root = Path(sys.argv[1])
    task = json.loads((root / "task.json").read_text(encoding="utf-8"))
    sys.path[:] = task["path"]
    torch.set_num_threads(task["threads"])
    x, setting, training = torch.load(root / "batch.pt", weights_only=False)
    found: dict[str, tuple[float | str, ...]] = {}
    for name, file in task["files"].items():
        with contextlib.suppress(Exception):  # then the network that needs it says so
            spec = importlib.util.spec_from_file_location(name, file)
            assert spec is not None
            assert spec.loader is not None
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
    for number in task["models"]:
        try:
            model = pickle.loads((root / f"{number}.pickle").read_bytes())
        except Exception as error:  # whatever its classes raise is the reason
            reason = f"the network cannot be built in a process of its own: {error}"
            found[str(number)] = (reason,) * (1 + training)
            continue
        found[str(number)] = _measured(model, x, setting, training, _on_cpu)
        del model
        (root / "result.json").write_text(json.dumps(found), encoding="utf-8")
    (root / "result.json").write_text(json.dumps(found), encoding="utf-8")


Found = TypeVar("Found")
SPARE = 256 * 2**20  # bytes left to everything else


def halving(batch: int, run: Callable[[int], Found], *, on: str) -> tuple[Found, int, list[str]]:
    """What `run` gives for the batch, or for the half, the quarter, … that fits into memory; that batch; notes.

    Raises: RuntimeError: not even one sample fits.
    """
    notes: list[str] = []
    while True:
        try:
            with within_memory():
                return run(batch), batch, notes
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if batch == 1:
                raise RuntimeError(f"out of memory on {on} with a batch of 1") from error
        notes.append(f"a batch of {batch} does not fit into the memory of {on}; halved to {batch // 2}")
        batch //= 2


@contextlib.contextmanager
def within_memory() -> Iterator[None]:
    """Inside, an allocation that the machine has no memory for fails at once, where the system would kill the process.

    Linux only; elsewhere nothing changes.
    """
    room = _room()
    if room is None:
        yield
        return
    import resource  # not everywhere

    before = resource.getrlimit(resource.RLIMIT_DATA)
    own = own_memory("VmData") or 0
    most = own + max(room - SPARE, SPARE)
    if before[1] != resource.RLIM_INFINITY:
        most = min(most, before[1])
    if before[0] != resource.RLIM_INFINITY:
        most = min(most, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _room() -> int | None:
    """Bytes that may still be taken: of the machine, and of the group that the process is confined to."""
    if not sys.platform.startswith("linux"):
        return None
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())
        found.append(most - int((group / "memory.current").read_text()))
    return min(found, default=None)


def own_memory(key: str) -> int | None:
    """Bytes of the process's own status: VmRSS, VmHWM (its peak), VmData; None where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    return None
