"""Images a second of networks, side by side at one batch size after another."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from foveate.costs.latency import Latency
from foveate.costs.measure import costs
from foveate.costs.setting import Setting
from foveate.counting import Batch, repeated


@dataclass(frozen=True)
class Throughput:
    """Images a second of every network at one batch size: median and the interval in which a repeat falls."""

    batch_size: int
    images_s: Mapping[str, Latency]


def throughput(
    models: Mapping[str, nn.Module], x: Batch, *, setting: Setting | None = None, most: int = 32, budget_s: float = 2.0
) -> tuple[list[Throughput], list[str]]:
    """Measured at 1, 2, 4, … images up to `most`, all networks in turns at each; and notes.

    Args:
        models: any networks for one batch.
        x: a batch; its first image is repeated.
        setting: device, numbers, layout, compiler.
        most: the largest batch. Where one does not fit into memory, the list ends before it and says so.
        budget_s: seconds of measuring at each size.
    """
    if most < 1:
        raise ValueError(f"throughput: wanted a largest batch of 1 or more; got {most}")
    sizes = [2**power for power in range(most.bit_length()) if 2**power < most] + [most]
    found: list[Throughput] = []
    for size in sizes:
        batch = repeated(x, size)
        measured = costs(models, batch, setting=setting, budget_s=budget_s, memory=False)
        first = next(iter(measured.values()))
        if first.batch_size < size:
            return found, [f"a batch of {size} does not fit into memory"]
        images = {
            name: Latency(*(1e3 * size / ms for ms in (one.latency_ms.median, one.latency_ms.high, one.latency_ms.low)))
            for name, one in measured.items()
        }
        found.append(Throughput(size, images))
    return found, []
