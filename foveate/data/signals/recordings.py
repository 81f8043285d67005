"""Every recording read, at one rate, and everything that is wrong with any."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.data.checks import examine
from foveate.data.dataset import Progress
from foveate.data.problems import Problem
from foveate.data.signals.files import read_signal
from foveate.data.signals.listing import Recording, SignalListing

Signals = list[NDArray[np.float32]]  # (C, T) each


def usable(
    listing: SignalListing, window: int, rate: float | None, skip_bad: bool, progress: Progress | None
) -> tuple[SignalListing, Signals, list[Problem]]:
    """The recordings to use at one rate, and all problems; with `skip_bad`, bad ones are left out."""
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, (int, float)) or rate <= 0):
        raise ValueError(f"rate: wanted samples a second above 0; got {rate!r}")
    read = examine(listing.recordings, lambda one: _read(one, window, rate), progress)
    problems = list(listing.problems)
    kept: list[Recording] = []
    signals: Signals = []
    first: dict[bytes, str] = {}  # of each content
    for one, (signal, own, reason) in zip(listing.recordings, read, strict=True):
        if not reason:
            earlier = first.setdefault(hashlib.blake2b(signal.tobytes(), digest_size=16).digest(), one.name)
            reason = "" if earlier == one.name else f"has the same samples as {earlier}; wanted each recording once"
        if reason:
            named = one.path if one.key is None or one.key not in one.name else Path(f"{one.path}: {one.key}")
            problems.append(Problem(named, reason))
        else:
            kept.append(replace(one, rate=own))
            signals.append(signal)
    if skip_bad:
        problems = [
            replace(one, reason=f"left out: {one.reason}", kind="note") if one.kind == "file" else one
            for one in problems
        ]
    problems += _unlike(kept, signals)
    if not kept and all(one.kind == "note" for one in problems):
        problems.append(Problem(listing.root, "wanted recordings that can be used; got none", "folder"))
    return replace(listing, recordings=tuple(kept)), signals, problems


def _unlike(recordings: Sequence[Recording], signals: Signals) -> list[Problem]:
    """Recordings of another rate, or of other channels, than the first."""
    problems = []
    for one, signal in zip(recordings[1:], signals[1:], strict=True):
        first = recordings[0]
        if one.rate != first.rate:
            reason = (
                f"has {_rate(one.rate)}, {first.name} {_rate(first.rate)}; wanted one rate, or rate = samples a second"
            )
            problems.append(Problem(one.path, f"{reason} to resample to", "folder"))
        elif signal.shape[0] != signals[0].shape[0]:
            reason = f"has {signal.shape[0]} channels, {first.name} has {signals[0].shape[0]}; wanted as many in all"
            problems.append(Problem(one.path, reason, "folder"))
    return problems


def _rate(rate: float | None) -> str:
    return "no rate" if rate is None else f"{rate:g} samples a second"


def _read(one: Recording, window: int, rate: float | None) -> tuple[NDArray[np.float32], float | None, str]:
    """The recording at the rate, the rate it has then, and why it cannot be used; "" where it can."""
    nothing = np.zeros((1, 0), np.float32)
    try:
        signal, of_file = read_signal(one.path, one.key)
    except ValueError as error:
        return nothing, None, str(error)
    own = of_file if one.rate is None else one.rate
    if of_file is not None and one.rate is not None and of_file != one.rate:
        return nothing, own, f"has {_rate(of_file)}; the table says {one.rate:g}"
    odd = np.flatnonzero(~np.isfinite(signal).all(0))
    if len(odd):
        plural = "s" * (len(odd) > 1)
        return nothing, own, f"{len(odd):,} sample{plural} without a finite value, the first at {odd[0]:,}"
    if np.ptp(signal, 1).min() == 0:
        return nothing, own, "a channel whose samples are all alike"
    if rate is not None:
        if own is None:
            return nothing, own, "has no rate to resample from; wanted a column 'rate' in the table"
        signal, own = _resampled(signal, own, rate), float(rate)
    if signal.shape[1] < window:
        return nothing, own, f"has {signal.shape[1]:,} samples; wanted at least window = {window:,}"
    return signal * np.float32(one.factor), own, ""


def _resampled(signal: NDArray[np.float32], own: float, rate: float) -> NDArray[np.float32]:
    if own == rate:
        return signal
    from scipy.signal import resample_poly

    ratio = Fraction(rate / own).limit_denominator(10_000)
    found: NDArray[np.float32] = resample_poly(signal, ratio.numerator, ratio.denominator, axis=1).astype(np.float32)
    return found
