"""Studies resampled from real runs, judged as studies are: with no difference (A/A), and with new items of a known one.

A/A: both arms are drawn from the runs of one arm, each run once at most, on all of its test items. Every drawn study is
a random sample of that network's runs, so no difference is true; the interval of the rate is over new pools of runs.

New items: seeds and items are drawn with replacement from the paired runs of two arms. These runs and items are then
the whole population, the true difference is their mean, and a claim is false where the interval leaves it out.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from calibration_rows import Array, Row, row, row_of

from foveate.items import ITEMS, read_items
from foveate.store import Store
from foveate.study.analyse import inference
from foveate.study.analyse.inference import FIRST_LOOK
from foveate.study.analyse.items import shared_values
from foveate.study.analyse.null_check import null_rate
from foveate.summary import ALPHA

SIZES = (3, 5, 8, 10, 20)


def real(folder: Path, studies: int) -> tuple[list[Row], dict[str, float]]:
    """The rows, and the correlation of each pair of arms over their seeds: what pairing gains.

    studies: of each A/A row. Raises: ValueError: no arm has 12 finished runs with scores of their items.
    """
    metric, arms = _tables(folder)
    rows: list[Row] = []
    for arm, (seeds, table) in arms.items():
        names = [str(number) for number in range(table.shape[1])]
        items = shared_values([(names, run) for run in table], {})
        for count in (n for n in SIZES if 4 * n <= len(seeds)):
            case = f"{folder.name}, {arm}: {len(seeds)} runs, {count} seeds, {metric}"
            for part, weight, shared, wanted in (
                ("real runs, A/A: some false claim at a first look", FIRST_LOOK, items, "≤ 5 %"),
                ("real runs, A/A: p below 0.05, seeds and items", 1.0, items, ""),
                ("real runs, A/A: p below 0.05, seeds alone", 1.0, None, ""),
            ):
                found = null_rate(table.mean(1), count, shared, studies, weight)
                rows.append(row_of(part, case, found.rate, found.low, found.high, studies, wanted))
    if not rows:
        raise ValueError(f"{folder}: wanted an arm with 12 finished runs or more and scores of their items; got none")
    pairing = {}
    for one, other in itertools.combinations(arms, 2):
        both = sorted(set(arms[one][0]) & set(arms[other][0]))
        first, second = (arms[arm][1][[arms[arm][0].index(seed) for seed in both]] for arm in (one, other))
        if len(both) > 2:
            pairing[f"{one} and {other}"] = float(np.corrcoef(first.mean(1), second.mean(1))[0, 1])
            rows += _new_items(second - first, f"{folder.name}, {other} to {one}", max(200, studies // 5))
    return rows, pairing


def _tables(folder: Path) -> tuple[str, dict[str, tuple[list[int], Array]]]:
    """Name of the metric, and each arm's seeds and values (runs, items)."""
    store = Store(folder / "results.db", read_only=True)
    try:
        runs = [run for run in store.runs() if run["state"] == "done"]
    finally:
        store.close()
    found: dict[str, dict[int, Array]] = {}
    metric = ""
    for run in runs:
        kept = read_items(folder / "runs" / run["key"] / ITEMS)
        if kept is not None:
            metric = metric or next((name for name, array in kept[1].items() if array.ndim == 1), "")
            if metric in kept[1]:
                found.setdefault(run["arm"], {})[run["seed"]] = kept[1][metric].astype(float)
    return metric, {arm: (sorted(by), np.stack([by[seed] for seed in sorted(by)])) for arm, by in found.items()}


def _new_items(gains: Array, name: str, studies: int) -> Iterator[Row]:
    draw, truth = np.random.default_rng(1), gains.mean()
    runs, items = gains.shape
    for count in (200, items):
        for seeds in (n for n in SIZES if 2 * n <= runs):
            both, alone = np.zeros(studies, bool), np.zeros(studies, bool)
            for study in range(studies):
                each = gains[draw.integers(0, runs, seeds)][:, draw.integers(0, items, count)]
                found = inference.evidence(each.mean(1), inference.item_variance(each), count)
                both[study] = inference.p_value(found, truth) < ALPHA
                alone[study] = inference.p_value(found.seeds_only(), truth) < ALPHA
            case = f"{name}: {runs} seeds and {items:,} items, of which {seeds} and {count:,}"
            yield row("real runs, new seeds and items: the truth is missed at 0.05", case, both, "≤ 5 %")
            yield row("the same by seeds alone", case, alone, "")
