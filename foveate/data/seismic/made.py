"""Salt models with their gathers as a folder: `foveate data make salt`."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from foveate.data.seismic.salt import KINDS, salt_models
from foveate.waves import Survey, gathers_of

MARK = "salt.json"  # in a folder that was made here


def make_salt(
    out: Path,
    n: int = 800,
    *,
    test_models: int | None = None,
    style: str = "layered",
    size: tuple[int, int] = (70, 70),
    seed: int = 0,
    survey: Survey | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Write models and gathers as out/train/ and out/test/, each with models.npy (n, H, W) in m/s, gathers.npy
    (n, shots, samples, receivers) float16, kinds.npy (n,) and masks.npy (n, H, W), and salt.json.

    All of it or nothing; a killed call goes on where it stopped, since simulated gathers stay in the cache.

    Args:
        out: a folder that is empty or not there yet.
        n: training models.
        test_models: None: an eighth as many, at least 2.
        style, size, seed: as `salt_models` has them.
        survey: None: the usual one, with a receiver at each column.
        progress: called with (models whose gathers are there, models in all).

    Returns: one line about it.
    Raises: ValueError: `out` is a file or holds something, cannot be written, or a number is out of its range.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(
            f"{out}: wanted an empty or a new folder; got {'one with files' if out.is_dir() else 'a file'}"
        )
    counts = {"train": n, "test": max(2, n // 8) if test_models is None else test_models}
    survey = Survey(receivers=size[1]) if survey is None else survey
    made = {part: salt_models(count, size=size, style=style, seed=seed, part=part) for part, count in counts.items()}
    total, before = sum(counts.values()), 0
    facts: dict[str, Any] = {"style": style, "seed": seed, "size": list(size), "kinds": list(KINDS)}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as place:
            whole = Path(place) / "whole"
            for part, one in made.items():

                def tell(done: int, _: int, before: int = before) -> None:
                    if progress is not None:
                        progress(before + done, total)

                gathers = gathers_of(one.velocity, survey, progress=tell)
                before += len(gathers)
                folder = whole / part
                folder.mkdir(parents=True)
                stored = np.lib.format.open_memmap(
                    folder / "gathers.npy", "w+", np.float16, (len(gathers), *survey.shape)
                )
                for item in range(len(gathers)):
                    stored[item] = gathers[np.array([item])][0]
                stored.flush()
                del stored
                np.save(folder / "models.npy", one.velocity)
                np.save(folder / "kinds.npy", one.kind)
                np.save(folder / "masks.npy", one.mask)
            (whole / MARK).write_text(json.dumps({**facts, "survey": survey.plain()}, indent=1))
            os.replace(whole, out)
    except OSError as error:
        raise ValueError(f"{out}: cannot be written: {error.strerror or error}") from None
    shares = ", ".join(
        f"{name} {float((made['train'].kind == number).mean()):.0%}" for number, name in enumerate(KINDS)
    )
    return (
        f"{out}: {counts['train']} train and {counts['test']} test models of {size[0]}×{size[1]} cells, style {style} "
        f"({shares}); gathers of {survey.shots} shots, {survey.samples} samples, {survey.receivers} receivers"
    )
