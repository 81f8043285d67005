"""Two baselines of signals without a network: logistic regression on the log-spectrum, and after wavelet shrinkage."""

import importlib.util
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.dataset import Split

SPECTRUM = "logistic regression on the log-spectrum"
WAVELETS = "the same after soft thresholds of wavelets"
NO_WAVELETS = "no baseline of wavelet thresholds: it needs PyWavelets, pip install 'foveate[signals]'"
WAVELET, LEVELS = "db8", 5
MOST_TRAIN = 20_000  # windows that are read
READ = 256  # at a time
FLOOR = 1e-6  # of a magnitude, before its logarithm
Array = NDArray[np.float64]


def has_wavelets() -> bool:
    """Is PyWavelets there?"""
    return importlib.util.find_spec("pywt") is not None


def signal_baselines(train: Split, test: Split, conditions: Mapping[int, str]) -> dict[str, dict[str, float]]:
    """By the baseline in words, the accuracy at each condition under its name.

    Each condition has a classifier of its own, trained on windows at that level of noise alone where training has it:
    it knows the level, which a network does not. Training windows are read once for each level that training has, as a
    network sees them in as many epochs.

    Args:
        train, test: windows (N, C, T) with the targets "label" and, where there are several conditions, "condition".
        conditions: numbers in the target "condition" of the test, and the name of the metric of each.
    """
    levels = len(getattr(train, "ratios_db", ())) or 1
    seen = _read(train, [(0, draw) for draw in range(levels)])
    given = _read(test, [None])
    ways: dict[str, Any] = {SPECTRUM: log_spectrum}
    if has_wavelets():
        ways[WAVELETS] = lambda x: log_spectrum(shrunk(x))
    found = {words: _accuracies(seen, given, features, conditions) for words, features in ways.items()}
    if len(conditions) > 1:  # each has as many items
        found = {words: {"accuracy": float(np.mean(list(one.values()))), **one} for words, one in found.items()}
    return found


def log_spectrum(x: Array) -> Array:
    """(N, C, T) → (N, C · (T // 2 + 1)): the logarithm of each frequency's magnitude."""
    return np.log(np.abs(np.fft.rfft(x, axis=-1)) + FLOOR).reshape(len(x), -1)


def shrunk(x: Array) -> Array:
    """(N, C, T) with the details of its wavelets thresholded softly at σ √(2 log T), σ from the finest details.

    Source: D. L. Donoho, "De-noising by soft-thresholding", IEEE Transactions on Information Theory 41(3), 1995.
    """
    import pywt

    length = x.shape[-1]
    most = min(LEVELS, pywt.dwt_max_level(length, WAVELET))
    if not most:
        return x
    coarse, *details = pywt.wavedec(x, WAVELET, "periodization", most, axis=-1)
    deviation = np.median(np.abs(details[-1]), -1, keepdims=True) / 0.6745
    threshold = deviation * np.sqrt(2 * np.log(length))
    soft = partial(_soft, threshold=threshold)
    found: Array = pywt.waverec([coarse, *map(soft, details)], WAVELET, "periodization", axis=-1)[..., :length]
    return found


def _soft(details: Array, threshold: Array) -> Array:
    return np.sign(details) * np.maximum(np.abs(details) - threshold, 0)


def _read(split: Split, draws: list[tuple[int, int] | None]) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Inputs, labels and conditions of all items, once a draw."""
    inputs, labels, conditions = [], [], []
    items = np.arange(len(split))
    if len(items) * len(draws) > MOST_TRAIN and draws[0] is not None:
        items = np.sort(np.random.default_rng(0).permutation(items)[: max(1, MOST_TRAIN // len(draws))])
    for draw in draws:
        for first in range(0, len(items), READ):
            batch = split.batch(items[first : first + READ].tolist(), draw)
            inputs.append(batch.inputs.double().numpy())
            labels.append(batch.targets["label"].numpy())
            there = batch.targets.get("condition")
            conditions.append(np.zeros(len(batch), np.int64) if there is None else there.numpy())
    return np.concatenate(inputs), np.concatenate(labels), np.concatenate(conditions)


def _accuracies(seen: Any, given: Any, features: Any, conditions: Mapping[int, str]) -> dict[str, float]:
    found = {}
    known, wanted = features(seen[0]), features(given[0])
    for number, name in conditions.items():
        of_test = given[2] == number if len(conditions) > 1 else np.ones(len(wanted), bool)
        of_train = seen[2] == number
        if not of_train.any():  # trained without noise, or at other levels
            of_train = np.ones(len(known), bool)
        found[name] = _accuracy(known[of_train], seen[1][of_train], wanted[of_test], given[1][of_test])
    return found


def _accuracy(known: Array, labels: NDArray[np.int64], wanted: Array, true: NDArray[np.int64]) -> float:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(labels)) < 2:
        return float((true == labels[0]).mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)).fit(known, labels)
    return float(fitted.score(wanted, true))
