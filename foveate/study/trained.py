"""The networks that a study trained, ready to be used."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from foveate import saving
from foveate.data import open_data
from foveate.files import read_json
from foveate.networks import narrow_to
from foveate.registry import nearest, run_file
from foveate.spec import Metric, Run
from foveate.store import Store
from foveate.study.build import build_variant, build_variant_for
from foveate.study.folder import RESULTS
from foveate.study.tuning import standing_runs, validation_scores


@dataclass(frozen=True)
class TrainedRun:
    """A finished run: its folder, its specification, and its network with trained weights in evaluation mode."""

    folder: Path
    run: Run
    model: nn.Module

    @property
    def name(self) -> str:
        """Arm and seed in words."""
        return f"{self.run.arm or self.run.variant.name}, seed {self.run.seed}"


def load(
    path: str | Path,
    *,
    arm: str | None = None,
    seed: int | None = None,
    builder: Callable[[], nn.Module] | None = None,
) -> nn.Module:
    """A trained network in evaluation mode: of a study, or of a file that `foveate.save` wrote (in its own modes).

    Args:
        path: a study's folder, a run's folder in it (runs/KEY), or a file.
        arm: with a study's folder: label of the arm, or its name before the options ("se" for "se (identity)") where
            that is one alone; None: the one with the best mean.
        seed: with a study's folder; None: the first that is finished.
        builder: with a file: makes the plain network, for one from a file of a person's own.

    Raises: ValueError: in one line, if there is no such run, or the file or folder is no network's. LookupError: if
        there is no such arm or seed; the nearest is named.
    """
    path = Path(path)
    if not path.is_dir():
        if arm is not None or seed is not None:
            raise ValueError(f"{path}: arm and seed go with the folder of a study; there is no such folder")
        return saving.load(path, builder=builder)
    if builder is not None:
        raise ValueError(f"{path}: builder goes with a file; a study knows how its networks are built")
    return load_run(path, arm=arm, seed=seed).model


def load_run(path: Path, *, arm: str | None = None, seed: int | None = None) -> TrainedRun:
    """The run in a folder; arguments and errors as of `load`."""
    folder = _folder(path, arm, seed)
    try:
        run = Run.model_validate_json((folder / "run.json").read_text(encoding="utf-8"))
        facts = read_json(folder / "result.json")["network"]
        weights = safetensors.torch.load_file(folder / "model.safetensors")
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise ValueError(f"{folder}: wanted the folder of a finished run ({str(error).splitlines()[0]})") from None
    for file in run.imports:
        run_file(file)
    with torch.inference_mode(False):  # a network for any use, whatever the caller's mode
        model = _build(run, facts)
        if run.variant.prune is not None:
            model = narrow_to(model, {name: tuple(value.shape) for name, value in weights.items()})
    model.load_state_dict(weights)
    return TrainedRun(folder, run, model.eval())


def _build(run: Run, facts: dict[str, Any]) -> nn.Module:
    """The run's network with fresh weights and nothing frozen."""
    variant = run.variant.model_copy(update={"freeze": False, "thaw": None, "prune": None})
    plain = run.model_copy(update={"variant": variant, "weights": None, "weights_fingerprint": ""})
    if facts["sample"] is None:
        return build_variant_for(plain, open_data(run.data), facts["outputs"])
    channels, example = facts["sample"][0], torch.zeros(2, *facts["sample"])
    return build_variant(plain, num_classes=facts["outputs"], in_channels=channels, example=example)


def find_run(text: str) -> TrainedRun:
    """The run that DIR[:ARM[:SEED]] names; errors as of `load`."""
    return load_run(folder_of_run(text))


def folder_of_run(text: str) -> Path:
    """The folder of the run that DIR[:ARM[:SEED]] names; errors as of `load`."""
    if Path(text).is_dir():
        return _folder(Path(text), None, None)
    colons = [place for place, one in enumerate(text) if one == ":" and Path(text[:place]).is_dir()]
    if not colons:
        raise ValueError(f"--run {text}: wanted DIR, DIR:ARM or DIR:ARM:SEED; there is no such folder")
    folder, rest = Path(text[: colons[-1]]), text[colons[-1] + 1 :]
    arm, _, seed = rest.rpartition(":")
    if arm and seed.isdecimal():
        return _folder(folder, arm, int(seed))
    return _folder(folder, rest, None)


def _folder(path: Path, arm: str | None, seed: int | None) -> Path:
    return path if (path / "run.json").is_file() else _find(path, arm, seed)


def _find(study: Path, arm: str | None, seed: int | None) -> Path:
    """The folder of the run of this arm and seed."""
    store = Store(study / RESULTS, read_only=True)
    try:
        planned = set(store.get_meta("runs") or [])
        every = {run["key"]: run for run in store.runs() if run["key"] in planned}
        metrics = [Metric(**one) for one in store.get_meta("metrics") or []]
        rows = store.metrics()
        values = {row["run"]: row["value"] for row in rows if row["metric"] == metrics[0].name}
        standing = standing_runs(every, validation_scores(rows, metrics[0]), metrics[0]) if metrics else {}
        runs = [run for run in standing.values() if run["state"] == "done"]
    finally:
        store.close()
    if not runs:
        raise ValueError(f"{study}: no run of this study is finished")
    arms = list(dict.fromkeys(run["arm"] for run in runs))
    if arm is None:
        means = {
            name: [values[run["key"]] for run in runs if run["arm"] == name and run["key"] in values] for name in arms
        }
        sign = -1 if metrics[0].better == "lower" else 1
        arm = max(arms, key=lambda name: sign * sum(means[name]) / len(means[name]) if means[name] else -float("inf"))
    if arm not in arms:  # "se" is "se (identity)" where no other arm begins so
        begun = [name for name in arms if name.startswith((f"{arm} (", f"{arm} ["))]
        arm = begun[0] if len(begun) == 1 else arm
    if arm not in arms:
        raise LookupError(f"{study}: no finished run of the arm {arm!r}; {nearest(arm, arms)}")
    found = {run["seed"]: run["key"] for run in runs if run["arm"] == arm}
    if seed is not None and seed not in found:
        raise LookupError(f"{study}: no finished run of {arm!r} with seed {seed}; finished: {sorted(found)}")
    return study / "runs" / found[min(found) if seed is None else seed]
