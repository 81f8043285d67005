"""What a network costs: counted, and measured."""

from torch import nn

from foveate.costs.calibration import Calibration, Prediction, calibrate, fastest_first, predict
from foveate.costs.latency import Latency, distinguishable
from foveate.costs.measure import Cost, Ranking, compared, cost, costs, ranked, stages_of
from foveate.costs.microbenchmarks import Experiment, experiment, experiments
from foveate.costs.pricing import Guidelines, Place, Total, guidelines
from foveate.costs.roofs import Machine, Point, Roofline, measure_machine, roofline, roofs, with_threads
from foveate.costs.setting import Setting
from foveate.costs.throughput import Throughput, throughput
from foveate.counting import Batch, Count, Row, Sums, count

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
    "Ranking",
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
    "distinguishable",
    "experiment",
    "experiments",
    "fastest_first",
    "guidelines",
    "macs",
    "measure_machine",
    "parameters",
    "predict",
    "ranked",
    "roofline",
    "roofs",
    "stages_of",
    "throughput",
    "with_threads",
]


def parameters(model: nn.Module) -> int:
    """Number of parameters, each counted once."""
    return sum(p.numel() for p in model.parameters())


def macs(model: nn.Module, x: Batch) -> int:
    """Multiply-adds of one forward pass: convolutions, linear layers, matrix products and attention; half the FLOPs."""
    return count(model, x, kept=False).macs
