"""Every operator of a pass against what the machine could do: its operations a byte, its rate, and what holds it."""

import statistics
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foveate.costs._machine import Machine
from foveate.costs._machine import machine as measured_machine
from foveate.costs._trace import timed

BOUNDS = ("arithmetic", "memory", "launch")


@dataclass(frozen=True)
class Point:
    """One operator. operations: a multiply-add counts as one. bound: which of arithmetic, memory traffic and launch
    takes longest at the machine's best rates. inserted: whether it runs inside one of the modules asked about."""

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
    x: Tensor,
    *,
    machine: Machine | None = None,
    inserted: Collection[str] = (),
    budget_s: float = 5.0,
) -> Roofline:
    """Time every operator of a pass where it stands, in evaluation mode, and hold it against the machine.

    Args:
        model: any network; left as it was found.
        x: a batch on the device to measure.
        machine: its roofs; measured now, for x's device and dtype, where not given.
        inserted: dotted paths of modules whose operators are to be told from the others.
        budget_s: seconds of measuring at most, about.

    Raises: ValueError: the network refuses x.
    """
    machine = machine or measured_machine(x.device, dtype=x.dtype if x.dtype.is_floating_point else torch.float32)
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
