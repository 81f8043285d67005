"""Latencies of a study's arms on other machines, as frozen values."""

from dataclasses import dataclass

from foveate.summary.rows import Times


@dataclass(frozen=True)
class MachineFound:
    """The latencies on one machine.

    Attributes:
        name: the machine and what runs the networks there, with its threads and batch.
        how: "measured" there, or "predicted" from counts by a calibration of it.
        latency_ms: arm → of one pass; of a prediction, the range that covers nine of ten networks.
        ratio: arm → to the plain network; of a measurement, of the medians.
        order: rank correlation of its latencies with those that the study measured; None: fewer than three arms.
    """

    name: str
    how: str
    latency_ms: dict[str, Times]
    ratio: dict[str, float]
    order: float | None
