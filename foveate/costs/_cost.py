"""What was found of one network, and how two of them are compared."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from foveate.costs._latency import Latency, interval_of_the_median, told_apart
from foveate.counting import Count


@dataclass(frozen=True)
class Cost:
    """What one pass over a batch costs.

    counted: all rows of the count, of which parameters, macs (multiply-adds of the batch), elementwise, reductions,
    bytes_moved, launches, unknown and activation_bytes (kept for the backward pass) are the sums. batch_size: what was
    run, less than was asked for where that did not fit into memory. latency_ms: median of a forward pass, and the
    interval in which a repeat of the measurement falls. latency_ratio: to the baseline, round by round in the same run
    (1, 1, 1 for the baseline itself). train_step_ms, train_step_ratio: of a forward and backward pass in training mode.
    peak_mib, train_peak_mib: memory that a pass takes above weights and batch. energy_mj: millijoules of a forward
    pass. inserted_ms: of each inserted module, by its place. What was not asked for or cannot be had is None; `notes`
    say why.
    """

    counted: Count = field(repr=False)
    batch_size: int
    latency_ms: Latency
    latency_ratio: Latency | None = None
    train_step_ms: Latency | None = None
    train_step_ratio: Latency | None = None
    peak_mib: float | None = None
    train_peak_mib: float | None = None
    energy_mj: float | None = None
    inserted_ms: Mapping[str, Latency] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    times_ms: tuple[float, ...] = field(default=(), repr=False)

    @property
    def parameters(self) -> int:
        return self.counted.total.parameters

    @property
    def macs(self) -> int:
        return self.counted.total.macs

    @property
    def bytes_moved(self) -> int:
        return self.counted.total.bytes_moved

    @property
    def activation_bytes(self) -> int:
        return self.counted.total.activation_bytes

    @property
    def unknown(self) -> dict[str, int]:
        return self.counted.unknown

    def row(self) -> dict[str, Any]:
        """All figures as plain values."""
        total = asdict(self.counted.total) | {"bytes_moved": self.bytes_moved, "unknown": self.unknown}
        measured = {
            name: None if (value := getattr(self, name)) is None else asdict(value)
            for name in ("latency_ms", "latency_ratio", "train_step_ms", "train_step_ratio")
        }
        rest = {name: getattr(self, name) for name in ("batch_size", "peak_mib", "train_peak_mib", "energy_mj")}
        if self.latency_ratio is not None:
            slower = "slower" if self.latency_ratio.median > 1 else "faster"
            rest["told"] = slower if told_apart(self.latency_ratio) else "not distinguishable"
        inserted = {name: asdict(time) for name, time in self.inserted_ms.items()}
        return {**total, **measured, **rest, "inserted_ms": inserted, "notes": list(self.notes)}


def compared(ours: Cost, other: Cost) -> Latency:
    """How many times the other's latency ours is, round by round; both must come from one run."""
    if len(ours.times_ms) != len(other.times_ms):
        raise ValueError("compared() wants two costs of one run: foveate.costs.costs({...}, x)")
    return interval_of_the_median([a / b for a, b in zip(ours.times_ms, other.times_ms, strict=True)])


def ranked(found: Mapping[str, Cost]) -> list[list[str]]:
    """Names from the fastest to the slowest; one stands with those before it as long as it cannot be told from all."""
    groups: list[list[str]] = []
    for name in sorted(found, key=lambda name: found[name].latency_ms.median):
        if groups and not all(told_apart(compared(found[name], found[other])) for other in groups[-1]):
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups
