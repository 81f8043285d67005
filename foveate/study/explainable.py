"""Networks that `foveate explain` takes: of a study's run, or by name with weights."""

from pathlib import Path
from typing import Any

from torch import Tensor

from foveate.data import open_data
from foveate.explain.files import Explainable
from foveate.networks import input_channels, is_detector
from foveate.spec import Run
from foveate.study.predict import as_published, class_names, gives_a_map, object_names, whole_image
from foveate.study.trained import TrainedRun, find_run, load_run
from foveate.tasks import create_task
from foveate.trained import load_trained


def explainable_run(text: str) -> Explainable:
    """The network of DIR[:ARM[:SEED]] with the preprocessing and the classes of its data.

    Raises: ValueError, LookupError: if there is no such run, or its data do not say how a file becomes a sample.
    """
    return _of(find_run(text), text)


def plain_beside(text: str) -> Explainable | None:
    """The plain network of the same study and seed; None where the run is plain itself, or no plain one is finished."""
    trained = find_run(text)
    if trained.run.variant.is_plain:
        return None
    for folder in sorted(trained.folder.parent.iterdir()):
        if (folder / "run.json").is_file() and (folder / "result.json").is_file():
            run = Run.model_validate_json((folder / "run.json").read_text(encoding="utf-8"))
            if run.variant.is_plain and run.control is None and run.seed == trained.run.seed:
                return _of(load_run(folder), text)
    return None


def _of(trained: TrainedRun, text: str) -> Explainable:
    run = trained.run
    data = open_data(run.data)
    if data.prepare is None or len(data.inputs) not in (3, 4):
        raise ValueError(f"{text}: wanted a study on images, or on clips of files; got {data.description}")
    task: Any = create_task(run.task, data, **run.task_options)
    prepare, channels = data.prepare, input_channels(run.network, data.inputs[0])

    def sample(source: Any) -> Tensor:
        found: Tensor = prepare(source)
        return found.expand(channels, *found.shape[1:])

    names: Any = getattr(task, "classes", None) or getattr(task, "names", ())
    judges = getattr(task, "classes", None) is not None and not task.detects
    levels, clips = data.test.levels, len(data.inputs) == 4
    return Explainable(trained.name, trained.model, sample, tuple(names), judges, levels=levels, clips=clips)


def explainable_network(network: str, weights: str | Path | None) -> Explainable:
    """A network by name with weights, or a saved one, with the preprocessing that it was published with.

    Raises: LookupError, ValueError, TypeError: as `foveate.trained.load_trained`.
    """
    trained = load_trained(network, weights)
    if is_detector(trained.model):
        names = trained.classes or object_names(trained.outputs)
        return Explainable(trained.name, trained.model, whole_image, tuple(names), False, trained.note)
    split = as_published(trained.name, trained.channels, trained.source, trained.file)
    whole = gives_a_map(trained.model, trained.channels)
    prepare = split.prepare_whole if whole else split.prepare
    names = trained.classes or class_names(trained.outputs)
    return Explainable(trained.name, trained.model, prepare, tuple(names), True, trained.note, split.levels)
