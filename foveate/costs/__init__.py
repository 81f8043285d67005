"""What a network costs: counted, and measured."""

from torch import Tensor, nn

from foveate.costs._calibration import Calibration, calibrate
from foveate.costs._cost import Cost, compared, ranked
from foveate.costs._guidelines import Guidelines, Place, Total, guidelines
from foveate.costs._latency import Latency, told_apart
from foveate.costs._machine import Machine, device_there, machine, with_threads
from foveate.costs._measure import cost, costs
from foveate.costs._microbenchmarks import Experiment, experiment, experiments
from foveate.costs._prediction import Prediction, fastest_first, predict
from foveate.costs._roofline import Point, Roofline, roofline
from foveate.costs._setting import Setting
from foveate.costs._stages import stages_of
from foveate.costs._throughput import Throughput, throughput
from foveate.counting import Count, Row, Sums, count

__all__ = [
    "Calibration",
    "Cost",
    "Count",
    "Experiment",
    "Guidelines",
    "Latency",
    "Machine",
    "Place",
    "Point",
    "Prediction",
    "Roofline",
    "Row",
    "Setting",
    "Sums",
    "Throughput",
    "Total",
    "calibrate",
    "compared",
    "cost",
    "costs",
    "count",
    "device_there",
    "experiment",
    "experiments",
    "fastest_first",
    "guidelines",
    "machine",
    "macs",
    "parameters",
    "predict",
    "ranked",
    "roofline",
    "stages_of",
    "throughput",
    "told_apart",
    "with_threads",
]


def parameters(model: nn.Module) -> int:
    """Number of parameters, each counted once."""
    return sum(p.numel() for p in model.parameters())


def macs(model: nn.Module, x: Tensor | tuple[Tensor, ...]) -> int:
    """Multiply-adds of one forward pass: convolutions, linear layers, matrix products and attention; half the FLOPs."""
    return count(model, x, kept=False).macs
