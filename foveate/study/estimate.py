"""How long a study's training takes, before it starts: from the measured costs of its networks and of reading."""

import functools
import time
from collections.abc import Iterable, Mapping

from foveate.data.dataset import Dataset
from foveate.spec import Run, Study
from foveate.train.schedule import batches_an_epoch

STARTING_S = 4.0  # of a run: a process, the data and the network, and its files at the end


def training_seconds(
    study: Study, data: Dataset, runs: Iterable[Run], costs: Mapping[str, Mapping[str, float]], batch: int, jobs: int
) -> float | None:
    """Seconds until these runs are trained, `jobs` at a time; None for a trainer of one's own, which nobody timed.

    Every batch of every epoch costs a training step and its reading, every test item a forward pass after each epoch
    and once more at the end. Optimiser, checkpoints and what slows a run down (runs beside it, other programs) are not
    in it.

    Args:
        runs: those not done yet.
        costs: arm → "train_step_ms" and "latency_ms" of a batch of `batch`.
    """
    if study.trainer is not None or not len(data.train):
        return None
    reading = functools.cache(lambda items: reading_seconds(data, items, augment=study.data.augment))
    watched = data.test if data.validation is None else data.validation
    seconds = 0.0
    for run in runs:
        spec = run.train
        batches = batches_an_epoch(len(data.train), spec.batch_size)
        step, forward = (costs[run.arm].get(name) for name in ("train_step_ms", "latency_ms"))
        if step is None or forward is None:
            return None
        scale = len(data.train) / batches / batch / 1000  # from milliseconds of the measured batch to seconds of one
        train = batches * (step * scale + reading(min(spec.batch_size, len(data.train))))
        each = forward / batch / 1000
        seconds += STARTING_S + spec.epochs * (train + len(watched) * each) + len(data.test) * each
    return seconds / jobs


def reading_seconds(data: Dataset, items: int, *, augment: bool) -> float:
    """Of a batch, from the time of up to 16 items spread over the training set."""
    count = min(items, 16)
    chosen = [number * len(data.train) // count for number in range(count)]
    drawn = (0, 0) if augment else None
    data.train.batch(chosen[:1], drawn)  # opens files
    began = time.perf_counter()
    data.train.batch(chosen, drawn)
    return (time.perf_counter() - began) * items / count


def in_words(seconds: float) -> str:
    """ "about 40 seconds", "about 7 minutes", "about 3.5 hours"."""
    if seconds < 90:
        return f"about {max(10, round(seconds / 10) * 10)} seconds"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours"
