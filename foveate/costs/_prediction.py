"""Latency predicted from counts, for a device that was calibrated once; and candidates in its order."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from foveate.costs._calibration import Calibration, kind_of, operators
from foveate.counting import count


@dataclass(frozen=True)
class Prediction:
    """Milliseconds of one pass. low, high: from-to of the factor that held 9 of 10 networks of the calibration, each
    left out of the fit. error: their median relative error. uncovered: operators of a kind that no network of the
    calibration had, which are priced as elementwise ones."""

    ms: float
    low: float
    high: float
    error: float
    uncovered: tuple[str, ...]


def predict(model: nn.Module, x: Tensor, calibration: Calibration | Path | str) -> Prediction:
    """Milliseconds of one forward pass on the device of a calibration, from the counts of the network alone.

    The network is run once to be counted, wherever it is; on the meta device that costs no memory and next to no time.

    Args:
        model: any network; left as it was found.
        x: a batch; its values do not matter.
        calibration: of `calibrate`, or the file that `foveate calibrate` wrote.

    Raises: ValueError: the network refuses x, x is of another dtype than the calibration, the file holds none.
    """
    if not isinstance(calibration, Calibration):
        calibration = Calibration.load(calibration)
    dtype = str(x.dtype).removeprefix("torch.")
    if x.is_floating_point() and dtype != calibration.dtype:
        raise ValueError(f"the calibration is for {calibration.dtype}; got a batch of {dtype}: calibrate for it")
    counted = count(model, x, kept=False)
    prices = calibration.prices
    ms = calibration.scale * operators(counted.rows, prices) + calibration.launch_ms * len(counted.rows)
    uncovered = dict.fromkeys(row.operator for row in counted.rows if kind_of(row) not in prices)
    return Prediction(ms, ms / calibration.within, ms * calibration.within, calibration.error, tuple(uncovered))


def fastest_first(
    candidates: Iterable[tuple[str, nn.Module]],
    x: Tensor,
    calibration: Calibration | Path | str,
    *,
    limit_ms: float | None = None,
) -> list[tuple[str, Prediction]]:
    """Candidates of a search by predicted latency, before any of them is trained or measured.

    Candidates that share most of their operators share most of the error too, so their order holds better than each
    figure does.

    Args:
        candidates: names and networks; each is let go before the next is taken.
        limit_ms: leave out those predicted above it.

    Raises: ValueError: as `predict`.
    """
    if not isinstance(calibration, Calibration):
        calibration = Calibration.load(calibration)
    found = [(name, predict(model, x, calibration)) for name, model in candidates]
    kept = [pair for pair in found if limit_ms is None or pair[1].ms <= limit_ms]
    return sorted(kept, key=lambda pair: pair[1].ms)
