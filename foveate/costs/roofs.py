"""What this machine can do at best, measured for one dtype and thread count; and every operator of a pass under it."""

import contextlib
import functools
import os
import statistics
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from foveate.costs.latency import time_interleaved
from foveate.costs.trace import timed
from foveate.counting import Batch, first_tensor
from foveate.devices import require_device
from foveate.machine import processor_name

MIB = 2**20
WORKING_SETS = {"cpu": (1, 4, 16, 64, 256), "cuda": (4, 16, 64, 256, 1024)}  # MiB read and written by one copy
MATRICES = {"cpu": (256, 512, 1024), "cuda": (1024, 4096, 8192)}


@dataclass(frozen=True)
class Machine:
    """The roofs of one device, for one dtype and number of CPU threads; each the best of its repeats.

    copy_gb_s: gigabytes read and written a second by a copy, against the bytes that it reads and writes; the first
    stays in a cache, the last comes from memory. read_gb_s: read by a sum, from memory. gmacs_s: 10⁹ multiply-adds a
    second of a matrix product. launch_us: microseconds of an operator on one number; convolution_launch_us: of a
    convolution of one number.
    """

    device: str
    name: str
    threads: int
    dtype: str
    copy_gb_s: tuple[tuple[int, float], ...]
    read_gb_s: float
    gmacs_s: float
    launch_us: float
    convolution_launch_us: float

    @property
    def memory_gb_s(self) -> float:
        """Of a copy too large for every cache."""
        return self.copy_gb_s[-1][1]

    @property
    def cache_gb_s(self) -> float:
        """Of a copy that stays in a cache."""
        return self.copy_gb_s[0][1]

    def bandwidth(self, moved: int) -> float:
        """Gigabytes a second of an operator that reads and writes this number of bytes; in between, interpolated."""
        (below, rate), *others = self.copy_gb_s
        if moved <= below:
            return rate
        for size, found in others:
            if moved <= size:
                return rate + (found - rate) * (moved - below) / (size - below)
            below, rate = size, found
        return rate

    def milliseconds(self, macs: int, moved: int, *, convolution: bool = False) -> float:
        """Of one operator at these rates: its launch, its arithmetic and its traffic, one after another."""
        launch = self.convolution_launch_us if convolution else self.launch_us
        return launch / 1e3 + (macs / self.gmacs_s + moved / self.bandwidth(moved)) / 1e6


def measure_machine(
    device: str | torch.device = "cpu", *, dtype: torch.dtype = torch.float32, threads: int | None = None
) -> Machine:
    """Measure the roofs of a device; about two seconds the first time, then remembered until the process ends.

    Args:
        device: "cpu", "cuda", "cuda:1", …
        dtype: of the numbers; a floating one.
        threads: CPU threads; torch's present number where not given. Put back afterwards.

    Raises: ValueError: no such device, no floating dtype, less than one thread.
    """
    return _measured(str(require_device(device)), dtype, torch.get_num_threads() if threads is None else threads)


def roofs(x: Batch) -> dict[str, float]:
    """The roofs that a whole network is compared with, measured in about a tenth of a second on the present threads:
    "gmacs_s", and "cache_gb_s" and "memory_gb_s" as of `Machine`; of the device and dtype of a batch."""
    t = first_tensor(x)
    device, dtype = str(t.device), t.dtype if t.is_floating_point() else torch.float32
    sizes = WORKING_SETS.get(t.device.type, WORKING_SETS["cuda"])
    small, large = sizes[0] * MIB, sizes[-2] * MIB
    n = MATRICES.get(t.device.type, MATRICES["cuda"])[-2]
    steps = {"cache": _copy(small, device, dtype), "memory": _copy(large, device, dtype)}
    with torch.inference_mode():
        steps["product"] = _product(n, device, dtype)
        best = {name: min(times) for name, times in time_interleaved(steps, repeats=8, budget_s=0.2).items()}
    return {
        "gmacs_s": n**3 / best["product"] / 1e6,
        "cache_gb_s": small * _repeats(small) / best["cache"] / 1e6,
        "memory_gb_s": large * _repeats(large) / best["memory"] / 1e6,
    }


def measure_machine_of(x: Batch) -> Machine:
    """The roofs of the device and dtype of a batch."""
    t = first_tensor(x)
    return measure_machine(t.device, dtype=t.dtype if t.is_floating_point() else torch.float32)


@functools.cache
def _measured(device: str, dtype: torch.dtype, threads: int) -> Machine:
    if not dtype.is_floating_point:
        raise ValueError(f"dtype: wanted a floating one such as torch.float32; got {dtype}")
    if threads < 1:
        raise ValueError(f"threads: wanted 1 or more; got {threads}")
    kind = torch.device(device).type
    sizes = [mib * MIB for mib in WORKING_SETS.get(kind, WORKING_SETS["cuda"])]
    matrices = MATRICES.get(kind, MATRICES["cuda"])
    with with_threads(threads), torch.inference_mode():
        copies = {size: _copy(size, device, dtype) for size in sizes}
        products = {n: _product(n, device, dtype) for n in matrices}
        many = torch.zeros(sizes[-1] // dtype.itemsize, device=device, dtype=dtype)
        one = torch.ones(1, 1, 1, 1, device=device, dtype=dtype)
        steps: dict[str, Callable[[], object]] = {f"copy {size}": copy for size, copy in copies.items()}
        steps |= {f"product {n}": product for n, product in products.items()}
        steps["read"] = many.sum
        steps["launch"] = _hundred(lambda: torch.relu(one))
        steps["convolution"] = _hundred(lambda: torch.conv2d(one, one))
        best = {name: min(times) for name, times in time_interleaved(steps, repeats=15, budget_s=2.0).items()}
    return Machine(
        device=device,
        name=device_name(device),
        threads=threads,
        dtype=str(dtype).removeprefix("torch."),
        copy_gb_s=tuple((size, size * _repeats(size) / best[f"copy {size}"] / 1e6) for size in sizes),
        read_gb_s=sizes[-1] / best["read"] / 1e6,
        gmacs_s=max(n**3 / best[f"product {n}"] / 1e6 for n in matrices),
        launch_us=10 * best["launch"],
        convolution_launch_us=10 * best["convolution"],
    )


def _repeats(size: int) -> int:
    """So many copies are timed at once that the clock's own cost vanishes."""
    return max(1, 8 * MIB // size)


def _copy(size: int, device: str, dtype: torch.dtype) -> Callable[[], object]:
    source = torch.ones(size // dtype.itemsize // 2, device=device, dtype=dtype)
    target = torch.zeros_like(source)

    def step() -> None:
        for _ in range(_repeats(size)):
            target.copy_(source)

    return step


def _product(n: int, device: str, dtype: torch.dtype) -> Callable[[], object]:
    matrix = torch.ones(n, n, device=device, dtype=dtype) / n
    result = torch.zeros_like(matrix)
    return lambda: torch.mm(matrix, matrix, out=result)


def _hundred(call: Callable[[], object]) -> Callable[[], object]:
    def step() -> None:
        for _ in range(100):
            call()

    return step


@contextlib.contextmanager
def with_threads(threads: int | None) -> Iterator[None]:
    """So many CPU threads inside, as many as before outside; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_name(device: str | torch.device) -> str:
    """The processor or accelerator in words."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    if kind == "cpu":
        return f"{processor_name()}, {os.cpu_count()} cores"
    return f"{kind} of {processor_name()}"


BOUNDS = ("arithmetic", "memory", "launch")


@dataclass(frozen=True)
class Point:
    """One operator. operations: a multiply-add counts as one. bound: which of arithmetic, memory traffic and launch
    takes longest at the machine's best rates. inserted: whether it runs inside one of the `inserted` modules."""

    operator: str
    module: str
    operations: int
    bytes_moved: int
    ms: float
    bound: str
    inserted: bool

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.operations / self.bytes_moved if self.bytes_moved else 0.0

    @property
    def rate(self) -> float:
        """10⁹ operations a second."""
        return self.operations / self.ms / 1e6 if self.ms else 0.0


@dataclass(frozen=True)
class Roofline:
    """The operators of one pass in order, and the machine whose roof they are under."""

    points: tuple[Point, ...]
    machine: Machine

    def where(self, *, inserted: bool = False) -> dict[str, float]:
        """Milliseconds by what holds the operators: arithmetic, memory, launch; of all, or of the inserted ones."""
        points = [point for point in self.points if point.inserted or not inserted]
        return {bound: sum(point.ms for point in points if point.bound == bound) for bound in BOUNDS}


def roofline(
    model: nn.Module,
    x: Batch,
    *,
    machine: Machine | None = None,
    inserted: Collection[str] = (),
    budget_s: float = 5.0,
) -> Roofline:
    """Time every operator of a pass where it stands, in evaluation mode, and hold it against the machine.

    Args:
        model: any network; left as it was found.
        x: a batch on the device to measure, as `foveate.counting.count` takes it.
        machine: its roofs; measured now, for x's device and dtype, where not given.
        inserted: dotted paths of modules whose operators are marked.
        budget_s: seconds of measuring at most, about.

    Raises: ValueError: the network refuses x.
    """
    machine = machine or measure_machine_of(x)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        calls, passes = timed(model, x, repeats=40, budget_s=budget_s)
    finally:
        for module, mode in modes.items():
            module.training = mode
    points = []
    for i, row in enumerate(call.row for call in calls):
        operations, moved = row.macs + row.elementwise + row.reductions, row.bytes_read + row.bytes_written
        launch = machine.convolution_launch_us if row.operator == "aten.convolution" else machine.launch_us
        needs = (operations / machine.gmacs_s / 1e6, moved / machine.bandwidth(moved) / 1e6, launch / 1e3)
        points.append(
            Point(
                row.operator,
                row.module,
                operations,
                moved,
                ms=statistics.median(one[i] for one in passes),
                bound=BOUNDS[needs.index(max(needs))],
                inserted=any(row.module == path or row.module.startswith(f"{path}.") for path in inserted),
            )
        )
    return Roofline(tuple(points), machine)
