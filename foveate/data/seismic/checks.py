"""Do stored gathers belong to their models? A few models are simulated and compared with what is stored."""

import hashlib
import importlib.util
import math

import numpy as np
import torch
from numpy.typing import NDArray

from foveate.data.cache import load_record, save_record
from foveate.data.seismic.sets import SIMULATED, Read
from foveate.waves import Survey, simulate
from foveate.waves.gathers import one_thread

SIMULATED_ITEMS, COMPARED = 3, 60  # models that are simulated; gathers that each is compared with
ALIKE = 0.6  # correlation of reflections from which on two gathers are of one model


def check_pairs(read: Read) -> list[str]:
    """Notes on stored gathers, from the correlation of their reflections with those of models simulated here.

    Raises: ValueError: the gathers are those of other models than the order says, of models whose depth and x are
        swapped, or have the other sign; what to do about it is said.
    """
    if read.origin == SIMULATED:
        return []
    if importlib.util.find_spec("deepwave") is None:
        return [
            'whether gathers and models belong together is not checked without deepwave: pip install "foveate[fwi]"'
        ]
    return [note for part in read.models for note in _check_part(read, part)]


def _check_part(read: Read, part: str) -> list[str]:
    models, gathers = read.models[part], read.gathers[part]
    items = sorted({number * (len(models) - 1) // max(SIMULATED_ITEMS - 1, 1) for number in range(SIMULATED_ITEMS)})
    others = sorted({*items, *(number * len(models) // COMPARED for number in range(COMPARED) if len(models) > number)})
    stored = gathers[np.array(others)]
    name = _name(models[items], stored, read.survey)
    if (known := load_record(name)) is not None:
        return list(known["notes"])
    notes = []
    later = read.survey.after_direct_wave(models.shape[2])
    with one_thread():
        for item in items:
            note = _check_one(read, part, item, others, stored, later)
            notes += [note] if note else []
    save_record(name, {"notes": notes})
    return notes


def _check_one(
    read: Read, part: str, item: int, others: list[int], stored: NDArray[np.float32], later: NDArray[np.bool_]
) -> str:
    model = read.models[part][item]
    own = stored[others.index(item)]
    alone = _simulated(model, read.survey)
    alike = _correlation(alone, own, later)
    if alike >= ALIKE:
        return ""
    called = read.names[part][item] if part in read.names else f"model {item}"
    if alike <= -ALIKE:
        raise ValueError(f"{called}: its gathers have the opposite sign of those simulated here; say sign = 'deepwave'")
    if model.shape[0] == model.shape[1]:
        turned = _correlation(_simulated(np.ascontiguousarray(model.T), read.survey), own, later)
        if turned >= ALIKE:
            raise ValueError(
                f"{called}: its gathers are those of the model with depth and x swapped; say axes = 'xz' if models are "
                "stored (x, depth)"
            )
    found = [_correlation(alone, one, later) for one in stored]
    best = int(np.argmax(found))
    if found[best] >= ALIKE:
        raise ValueError(
            f"{called}: belongs to the gathers of item {others[best]} (correlation {found[best]:.2f}), not to those at "
            f"its own place {item} ({alike:.2f}): models and gathers are not in one order"
        )
    return (
        f"{called}: its reflections are unlike those simulated here (correlation {alike:.2f}); the survey may be "
        "another: say it with survey = {…}"
    )


def _simulated(model: NDArray[np.float32], survey: Survey) -> NDArray[np.float32]:
    with torch.inference_mode():
        return simulate(torch.from_numpy(model), survey).numpy()


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32], later: NDArray[np.bool_]) -> float:
    """Of two gathers after the direct wave."""
    x, y = a[later].astype(np.float64), b[later].astype(np.float64)
    return float(x @ y) / max(math.sqrt(float(x @ x) * float(y @ y)), 1e-12)


def _name(models: NDArray[np.float32], stored: NDArray[np.float32], survey: Survey) -> str:
    digest = hashlib.sha256(repr(sorted(survey.plain().items())).encode())
    digest.update(np.ascontiguousarray(models).tobytes() + stored.tobytes())
    return f"pairs-{digest.hexdigest()[:32]}"
