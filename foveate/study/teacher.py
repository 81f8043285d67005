"""Whom a network of a study learns from: a run of a study, or a network by name with a file of weights."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from foveate.compression import Distillation
from foveate.networks import weights_fingerprint
from foveate.registry import is_file_reference
from foveate.spec import Run
from foveate.study.trained import folder_of_run, load_run
from foveate.trained import load_trained


def teacher_fingerprint(distill: Distillation) -> str:
    """What tells this teacher from others: how its network is made, and a hash of its weights.

    Raises: ValueError, LookupError: in one line, if there is no such run, or the file cannot be read.
    """
    made: Any
    if distill.weights is None:
        folder = folder_of_run(distill.teacher)
        try:
            made = Run.model_validate_json((folder / "run.json").read_text(encoding="utf-8")).key
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder}: wanted the folder of a finished run ({str(error).splitlines()[0]})") from None
        weights = folder / "model.safetensors"
    else:
        name = distill.teacher
        made = [Path(name).name if is_file_reference(name) else name, distill.options]
        weights = Path(distill.weights)
    return json.dumps([made, weights_fingerprint(weights)], sort_keys=True)


def load_teacher(distill: Distillation, outputs: int) -> nn.Module:
    """The trained network in evaluation mode. Raises: ValueError, LookupError, TypeError: in one line."""
    if distill.weights is None:
        return load_run(folder_of_run(distill.teacher)).model
    return load_trained(distill.teacher, distill.weights, num_classes=outputs, options=distill.options).model
