"""Two folders of one study made one, as of two people or two clusters."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.spec import Study
from foveate.store import Store
from foveate.study.folder import CLAIM, LOCK, PAUSE, RESULTS, STUDY, first_difference, lock_folder, write_study
from foveate.study.ledger import LEDGER, read_ledger, union
from foveate.study.notes import NOTES
from foveate.study_file import read_study
from foveate.summary import to_json

TIMED = ("seconds",)  # metrics that measure time: two runs of one kind differ in them
ALIKE = ("variants", "control", "controls", "robustness", "explain", "metric", "matters", "compare", "until")
LEFT = {LOCK, PAUSE, RESULTS, STUDY, NOTES, "report", "progress.json"}  # of the folders' files, not taken as they are


@dataclass(frozen=True)
class Merged:
    """What a merge found.

    Attributes:
        runs: done in the merged folder.
        both: runs that both folders have, alike.
        unequal: lines on runs that both have and that differ; the first folder's is kept.
    """

    runs: int
    both: int
    unequal: tuple[str, ...]


def merge(first: Path, second: Path, out: Path) -> Merged:
    """Write a new folder with the finished runs of both; neither is changed.

    Raises: ValueError: the folders have different studies (the difference is named), other data, weights or code; one
        is in use; or `out` is there already.
    """
    if out.exists():
        raise ValueError(f"--out: wanted a folder that is not there yet; got {out}")
    if inside := [one for one in (first, second) if out.resolve().is_relative_to(one.resolve())]:
        raise ValueError(f"--out: wanted a folder outside {inside[0]}; got {out}")
    if first.resolve() == second.resolve():
        raise ValueError(f"merge: wanted two folders; got {first} twice")
    for folder in (first, second):
        if not (folder / STUDY).is_file():
            raise ValueError(f"{folder}: wanted the folder of a study; it holds no {STUDY}")
    with lock_folder(first), lock_folder(second):
        study = _one_study(first, second)
        stores = Store(first / RESULTS, read_only=True), Store(second / RESULTS, read_only=True)
        try:
            _same_meta(first, second, *stores)
            found = _write(out, study, first, second, stores)
        except BaseException:
            shutil.rmtree(out, ignore_errors=True)
            raise
        finally:
            for store in stores:
                store.close()
    return found


def _one_study(first: Path, second: Path) -> Study:
    """The study with the seeds of both. Raises: ValueError: they are two."""
    ours, theirs = read_study(first / STUDY), read_study(second / STUDY)
    if (difference := first_difference(ours, theirs)) is not None:
        part, before, now = difference
        raise ValueError(f"{first} and {second} hold two studies ({part}: {before!r} and {now!r})")
    for part in ALIKE:
        before, now = (one.model_dump(mode="json")[part] for one in (ours, theirs))
        if before != now:
            raise ValueError(f"{first} and {second} hold two studies ({part}: {before!r} and {now!r})")
    return ours.model_copy(update={"seeds": tuple(dict.fromkeys([*ours.seeds, *theirs.seeds]))})


def _same_meta(first: Path, second: Path, ours: Store, theirs: Store) -> None:
    for part in ("content", "measured", "metrics", "arms"):
        before, now = ours.get_meta(part), theirs.get_meta(part)
        if before is None or now is None:
            raise ValueError(f"{first if before is None else second}: wanted a study with finished runs")
        if before != now:
            what = "data, weights or code" if part == "content" else part
            raise ValueError(f"{first} and {second} hold two studies (their {what} differ: {_first(before, now)})")


def _first(before: Any, now: Any) -> str:
    """The first difference of two values."""
    if isinstance(before, dict) and isinstance(now, dict):
        key = next(key for key in {**before, **now} if before.get(key) != now.get(key))
        return f"{key}: {before.get(key)!r} and {now.get(key)!r}"
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return next(f"{a!r} and {b!r}" for a, b in zip(before, now, strict=True) if a != b)
    return f"{before!r} and {now!r}"


def _write(out: Path, study: Study, first: Path, second: Path, stores: tuple[Store, Store]) -> Merged:
    out.mkdir(parents=True)
    for entry in first.iterdir():
        if entry.name not in LEFT and not entry.name.startswith((RESULTS, CLAIM)):
            (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, out / entry.name)
    write_study(out, study)
    notes = [path.read_text(encoding="utf-8") for path in (first / NOTES, second / NOTES) if path.is_file()]
    if notes:
        lines = dict.fromkeys(line for text in notes for line in text.splitlines())
        (out / NOTES).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    stores[0].copy_to(out / RESULTS)
    merged = Store(out / RESULTS)
    try:
        known, taken = _results(stores[0]), _results(stores[1])
        unequal = tuple(
            f"{run['arm']}, seed {run['seed']}: {difference}; {first}'s is kept"
            for key, run in taken.items()
            if key in known and (difference := _difference(known[key], run))
        )
        both = sum(key in known for key in taken) - len(unequal)
        for key in taken:
            if key not in known:
                source = second / "runs" / key
                if source.is_dir():
                    shutil.copytree(source, out / "runs" / key, dirs_exist_ok=True)
        merged.add_from(second / RESULTS)
        merged.reset(("running",))
        keys = [*(stores[0].get_meta("runs") or []), *(stores[1].get_meta("runs") or [])]
        merged.set_meta("runs", list(dict.fromkeys(keys)))
        merged.set_meta(LEDGER, to_json(union(read_ledger(stores[0]), read_ledger(stores[1]))))
        about = merged.get_meta("about")
        parts = [f"merged of {first.name} and {second.name}: {both} runs were in both, alike", *unequal]
        merged.set_meta("about", about | {"notes": [*about["notes"], *parts]})
        done = len(_results(merged))
    finally:
        merged.close()
    return Merged(done, both, unequal)


def _results(store: Store) -> dict[str, dict[str, Any]]:
    """Key → row and metrics of each finished run."""
    found = {run["key"]: run | {"metrics": {}} for run in store.runs() if run["state"] == "done"}
    for row in store.metrics():
        found[row["run"]]["metrics"][row["metric"]] = row["value"]
    return found


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    for name in {**ours["metrics"], **theirs["metrics"]}:
        a, b = ours["metrics"].get(name), theirs["metrics"].get(name)
        if a != b and name not in TIMED:
            where = "" if ours["machine"] == theirs["machine"] else f", on {ours['machine']} and {theirs['machine']}"
            return f"{name} is {json.dumps(a)} and {json.dumps(b)}{where}"
    return None
