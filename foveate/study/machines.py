"""A study's arms on other machines: latencies that were measured there, or predicted by a calibration of one."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foveate.costs import Calibration, predict
from foveate.costs.calibration import KIND as CALIBRATION
from foveate.registry import nearest
from foveate.study.trained import load_run
from foveate.summary import MachineFound, Summary, Times

MEASURED = "foveate measurements"
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Timed(BaseModel):
    """Milliseconds of one pass: the median and its interval."""

    model_config = ConfigDict(extra="forbid")
    median: Positive
    low: Positive
    high: Positive


class Measurements(BaseModel):
    """What docs/examples/measure_elsewhere.py brings back: networks by the labels of a study's arms."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["foveate measurements"]
    machine: str = Field(min_length=1, max_length=200)
    runtime: str = Field(min_length=1, max_length=100)
    threads: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    networks: dict[str, Timed] = Field(min_length=1)


def with_machines(summary: Summary, folder: Path, files: Sequence[Path]) -> Summary:
    """The summary of the study in a folder with its arms' latencies on the machine of each file.

    files: measurements, or calibrations of `foveate calibrate`, with which the networks of the first finished seed are
        counted and nothing is timed.

    Raises: ValueError: a file is neither, or names a network that is no arm. OSError: a file cannot be read.
    """
    return replace(summary, machines=tuple(_machine(summary, folder, file) for file in files))


def _machine(summary: Summary, folder: Path, file: Path) -> MachineFound:
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: wanted measurements or a calibration as JSON; got none ({error})") from None
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind == CALIBRATION:
        found = Calibration.load(file)
        setting = f"{found.device}, {_threads(found.threads)}, {found.dtype}, batch {found.batch_size}"
        return _found(summary, f"{found.name}, {setting}", "predicted", _predicted(summary, folder, found))
    if kind != MEASURED:
        kinds = f"{MEASURED!r} or {CALIBRATION!r}"
        raise ValueError(f"{file}: wanted a file of the kind {kinds}; got {str(kind)[:60]!r}")
    read = _measurements(file, content)
    labels = [arm.label for arm in summary.arms]
    for name in read.networks:
        if name not in labels:
            raise ValueError(f"{file}: {name!r} is no arm of this study; {nearest(name, labels)}")
    times = {name: Times(**one.model_dump()) for name, one in read.networks.items()}
    setting = f"{read.runtime}, {_threads(read.threads)}, batch {read.batch_size}"
    return _found(summary, f"{read.machine}, {setting}", "measured", times)


def _measurements(file: Path, content: dict[str, Any]) -> Measurements:
    try:
        return Measurements.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{file}: not whole measurements: {where}: {first['msg'].lower()}") from None


def _predicted(summary: Summary, folder: Path, calibration: Calibration) -> dict[str, Times]:
    """Of the arms with a finished run whose network takes one tensor."""
    times = {}
    for arm in summary.arms:
        if arm.score is None:
            continue
        run = load_run(folder, arm=arm.label, seed=arm.score.seeds[0])
        sample = json.loads((run.folder / "result.json").read_text(encoding="utf-8"))["network"]["sample"]
        if sample is not None:
            x = torch.zeros(calibration.batch_size, *sample, dtype=getattr(torch, calibration.dtype))
            found = predict(run.model.to(x.dtype), x, calibration)
            times[arm.label] = Times(found.ms, found.low, found.high)
    return times


def _found(summary: Summary, name: str, how: str, times: dict[str, Times]) -> MachineFound:
    plain = times.get(summary.plain)
    here = {arm.label: arm.cost.latency_ms.median for arm in summary.arms if arm.cost.latency_ms}
    return MachineFound(
        name=name,
        how=how,
        latency_ms={arm.label: times[arm.label] for arm in summary.arms if arm.label in times},
        ratio={label: one.median / plain.median for label, one in times.items()} if plain else {},
        order=_rank_correlation([(here[label], one.median) for label, one in times.items() if label in here]),
    )


def _rank_correlation(pairs: list[tuple[float, float]]) -> float | None:
    from scipy import stats

    if len(pairs) < 3:
        return None
    found = float(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
    return found if found == found else None  # of equal values there is no order


def _threads(number: int) -> str:
    return f"{number} thread{'' if number == 1 else 's'}"
