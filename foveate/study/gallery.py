"""Pictures of single held-out items: where a variant and the plain network disagree, and where both are right or wrong.

Chosen by the scores of items that every run keeps, over the seeds that both finished; drawn by the networks of the
first of these seeds. Kept in the study's folder under gallery/, and drawn again only when runs were added.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.data import open_data
from foveate.data.dataset import Dataset
from foveate.explain import explain_batch, overlay
from foveate.explain.targets import NoBoxError
from foveate.files import read_json, write_json, write_whole
from foveate.items import ITEMS, read_items, read_tables
from foveate.metric import Metric
from foveate.spec import Run
from foveate.store import Store
from foveate.study.analyse.items import of_metric
from foveate.study.analyse.remade import BLOCK, Remade
from foveate.study.folder import RESULTS, STUDY
from foveate.study.results import runs_of_the_plan
from foveate.study.trained import TrainedRun, load_run
from foveate.study.tuning import standing_runs, validation_scores
from foveate.study_file import read_study
from foveate.summary import Summary
from foveate.tasks import Task, create_task
from foveate.tasks.gallery import attention_pictures, beside
from foveate.tasks.pictures import Picture, captioned, png, shown

GALLERY, INDEX = "gallery", "gallery.json"
SORTS = ("gained", "lost", "right", "wrong")
EACH, FEWER, MANY = 4, 2, 6  # pictures of a sort; where there are more than MANY variants
GATES = 3  # maps of modules beside a case
MOST_ALONE = 2000  # items of a metric of the whole set, which is made anew of each alone


@dataclass(frozen=True)
class Case:
    """One item. values: the judged metric of plain and of the variant, mean over seeds."""

    sort: str
    item: str
    plain: float
    variant: float
    picture: str


def draw_gallery(folder: Path, summary: Summary) -> dict[str, list[dict[str, Any]]]:
    """Draw what is not drawn yet, and return it: variant → its cases as plain values, "picture" the path of a PNG.

    Where the judged metric is one of the whole set, as average precision, an item's is that of the set of it alone.
    Variants without scores of items are left out, as are tasks that draw nothing.

    Raises: ValueError: if a run's network or its data cannot be opened, in one line.
    """
    runs = _finished(folder, summary.metric)
    plain = runs.get(summary.plain, {})
    place = folder / GALLERY
    kept = read_json(place / INDEX) if (place / INDEX).is_file() else {}
    variants = [arm.label for arm in summary.arms if arm.kind == "attention" and arm.label in runs]
    each = EACH if len(variants) <= MANY else FEWER
    shared = _Shared(folder)
    place.mkdir(exist_ok=True)
    index: dict[str, Any] = {}
    for number, label in enumerate(variants):
        seeds = sorted(set(runs[label]) & set(plain))
        keys = [of_arm[seed] for seed in seeds for of_arm in (plain, runs[label])]
        if not seeds:
            continue
        if kept.get(label, {}).get("keys") == keys:
            index[label] = kept[label]
            continue
        chosen = _choose(folder, plain, runs[label], seeds, summary.metric, each)
        cases = shared.draw(plain[seeds[0]], runs[label][seeds[0]], chosen, place, number) if chosen else []
        index[label] = {"keys": keys, "cases": [vars(case) for case in cases]}
    if index != kept:
        write_json(place / INDEX, index)
    return read_gallery(folder)


def read_gallery(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What is drawn already, as `draw_gallery` returns it; {} where nothing is."""
    path = folder / GALLERY / INDEX
    if not path.is_file():
        return {}
    return {
        label: [case | {"picture": str(folder / GALLERY / case["picture"])} for case in entry["cases"]]
        for label, entry in read_json(path).items()
        if entry["cases"]
    }


def _finished(folder: Path, metric: Metric) -> dict[str, dict[int, str]]:
    """Arm → seed → key, of the runs that are done and chosen."""
    store = Store(folder / RESULTS, read_only=True)
    try:
        planned = runs_of_the_plan(store)
        standing = standing_runs(planned, validation_scores(store.metrics(), metric), metric)
    finally:
        store.close()
    found: dict[str, dict[int, str]] = {}
    for key, run in standing.items():
        if run["state"] == "done" and (folder / "runs" / key / ITEMS).is_file():
            found.setdefault(run["arm"], {})[run["seed"]] = key
    return found


@dataclass(frozen=True)
class _Chosen:
    sort: str
    item: str
    number: int
    plain: float
    variant: float


def _choose(
    folder: Path, plain: Mapping[int, str], ours: Mapping[int, str], seeds: Sequence[int], metric: Metric, each: int
) -> list[_Chosen]:
    """The items with the largest gain and loss, those that both do best, and those that both do worst."""
    tables = []
    for of_arm in (plain, ours):
        known = [one for seed in seeds if (one := _values(folder / "runs" / of_arm[seed] / ITEMS, metric)) is not None]
        if len(known) != len(seeds) or len({tuple(names) for names, _ in known}) > 1:
            return []
        tables.append(np.mean([values for _, values in known], 0))
        names = known[0][0]
    before, after = tables
    if len(before) != len(after):
        return []
    sign = -1.0 if metric.better == "lower" else 1.0
    gain = sign * (after - before)
    both = sign * (after + before)
    orders = {"gained": -gain, "lost": gain, "right": -both, "wrong": both}
    chosen: list[_Chosen] = []
    taken = set[int]()
    for sort in SORTS:
        order = orders[sort]
        fit = np.isfinite(order) & (order < 0 if sort in ("gained", "lost") else np.ones(len(order), bool))
        places = [int(n) for n in np.argsort(np.where(fit, order, np.inf), kind="stable") if fit[n]]
        for n in [n for n in places if n not in taken][: each if sort in ("gained", "lost") else FEWER]:
            taken.add(n)
            chosen.append(_Chosen(sort, names[n], n, float(before[n]), float(after[n])))
    return chosen


def _values(path: Path, metric: Metric) -> tuple[Sequence[str], NDArray[np.float64]] | None:
    """Names of a run's items and the metric of each: of a metric of the whole set, that of the item alone."""
    kept = read_items(path)
    if kept is None:
        return None
    names, arrays = kept
    if metric.name in arrays:
        return names, arrays[metric.name].astype(float)
    found = of_metric(kept, metric, read_tables(path))
    if found is None or not isinstance(found[1], Remade) or len(names) > MOST_ALONE:
        return None
    alone = [found[1].value(np.eye(min(BLOCK, len(names) - at), len(names), at)) for at in range(0, len(names), BLOCK)]
    return names, np.concatenate(alone)


class _Shared:
    """Networks, data and tasks that several variants need, opened once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.study = read_study(folder / STUDY)
        self.network = cache(lambda key: load_run(folder / "runs" / key))
        self.opened: dict[str, tuple[Dataset, Task]] = {}

    def draw(self, plain: str, ours: str, chosen: Sequence[_Chosen], place: Path, number: int) -> list[Case]:
        """A picture of each case: plain's answer, the variant's, and the variant's gates."""
        one, other = self.network(plain), load_run(self.folder / "runs" / ours)
        data, task = self._open(one.run)
        cases = []
        for count, case in enumerate(chosen):
            name = data.test.name_of(case.number)
            if name != case.item:
                raise ValueError(f"the item {case.item!r} is now {name!r}: the data changed since the runs")
            picture = _picture(task, data, one, other, case)
            if picture is None:
                return []
            file = f"{number}-{count}.png"
            write_whole(place / file, png(picture))
            cases.append(Case(case.sort, case.item, case.plain, case.variant, file))
        return cases

    def _open(self, run: Run) -> tuple[Dataset, Task]:
        key = run.data.model_dump_json()
        if key not in self.opened:
            data = open_data(run.data)
            self.opened[key] = data, create_task(run.task, data, **run.task_options)
        return self.opened[key]


def _picture(task: Task, data: Dataset, plain: TrainedRun, ours: TrainedRun, case: _Chosen) -> Picture | None:
    batch = data.test.batch([case.number], None)
    row: list[NDArray[np.uint8]] = []
    with torch.inference_mode():
        for label, model in (("plain", plain.model), (ours.run.arm or ours.run.variant.name, ours.model)):
            drawn = task.draw(batch, task.answers(model, batch.inputs))
            if not drawn:
                return None
            row.append(captioned(drawn[0], label))
    over = None
    if task.detects:
        with torch.inference_mode():
            over = task.over(batch, ours.model(batch.inputs))
        row += [captioned(one, f"Grad-CAM, {label}") for label, one in _cams(batch.inputs[0], plain, ours)]
    gates = attention_pictures(ours.model, batch.inputs, over, most=GATES) if len(data.inputs) == 3 else []
    return beside([*row, *itertools.islice(gates, 1)])


def _cams(image: Tensor, plain: TrainedRun, ours: TrainedRun) -> Iterator[tuple[str, Picture]]:
    """Of each detector that finds a box, the map of its best one over the image."""
    (picture,) = shown([image])
    for label, model in (("plain", plain.model), (ours.run.arm or ours.run.variant.name, ours.model)):
        with contextlib.suppress(NoBoxError):
            yield label, overlay(picture, explain_batch(model, [image])[0].maps[0].detach().numpy())
