"""What a task is: what the head is built for, the loss, what is measured on each held-out item and on the whole set."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from foveate.data.dataset import Batch, Dataset, Target
from foveate.registry import Registry, check_options, is_file_reference, read_from_file
from foveate.spec import Metric
from foveate.tasks.pictures import Over, Picture, shown


@dataclass(frozen=True)
class Scores:
    """What a meter found.

    Attributes:
        values: {metric: value over the whole set}.
        items: {name: array (n, …)}, a row an item in the order of the updates: the metric's value of each item, or sums
            from which a metric of the whole set is made again (intersections and unions by class).
        by_class: {class: {figure: value}}, of tasks with classes.
        confusion: int64 (K, K), items or positions of each true class (rows) by predicted class.
        confused: names of the K, where they are others than those of `by_class`.
        tables: {name: {column: array}} whose rows are no items, such as detections: the column "item" says whose each
            is. Metrics whose `remade_by` says so are made again of them.
        curves: {class: (101,)}, precision at recalls from 0 to 1.
        findings: what may be wrong with a network that has learned nothing, a line each.
    """

    values: Mapping[str, float]
    items: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    by_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    confusion: NDArray[np.int64] | None = None
    confused: tuple[str, ...] = ()
    tables: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    curves: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    findings: Sequence[str] = ()

    def details(self) -> dict[str, Any]:
        """What a run keeps beside its metrics, as plain values; {}: nothing."""
        counted = self.confusion is not None and len(self.confusion) <= MOST_CONFUSED
        if not (self.curves or self.findings or counted):
            return {}
        return {
            "confused": list(self.confused or self.by_class) if counted else [],
            "confusion": self.confusion.tolist() if self.confusion is not None and counted else [],
            "curves": {name: [round(float(value), 5) for value in curve] for name, curve in self.curves.items()},
            "findings": list(self.findings),
        }


class Meter(ABC):
    """Measures a network over the batches of a split; updates come in evaluation mode without gradients."""

    @abstractmethod
    def update(self, model: nn.Module, batch: Batch) -> None:
        """Run the model on a batch and keep what its scores need."""

    @abstractmethod
    def scores(self) -> Scores:
        """The scores of every batch so far."""


class Task(ABC):
    """One thing to train networks for, on one data set. Options are keyword arguments of the constructor.

    Attributes:
        metrics: what `meter` measures; the first is what a study's verdict is about.
        outputs: what the head is built for: classes, or values; networks get it as `num_classes`.
        dense: does the network give a map of the input's size?
        notes: what a reader of the metrics must know, a line each.
        detects: is the network a detector, which takes a list of images, and in training their targets?
        planned_on: the device on which a study builds and runs the network before anything runs: "meta", without memory
            or arithmetic, or "cpu", where what the network does depends on the values of its tensors.
    """

    metrics: tuple[Metric, ...]
    outputs: int
    notes: tuple[str, ...] = ()
    dense: ClassVar[bool] = False
    detects: ClassVar[bool] = False
    planned_on: ClassVar[str] = "meta"

    def __init__(self, data: Dataset) -> None:
        self.data = data

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run the model; {"loss": what is differentiated, and parts of it to log}."""

    @abstractmethod
    def meter(self) -> Meter:
        """A fresh meter."""

    def check(self, model: nn.Module, batch: Batch) -> None:
        """Run the model once and see whether what it gives fits the task; called on the meta device at planning.

        Raises: ValueError: if it does not, in one line.
        """
        self.loss(model, batch)

    def arguments(self, batch: Batch) -> Any:
        """What the network is called with in training, as `foveate.cost` takes it."""
        return batch.inputs

    def baseline(self) -> tuple[str, dict[str, float]]:
        """What a network must beat: in words, as "always giving the most frequent class", and the metrics of that.

        ("", {}): nothing is known.
        """
        return "", {}

    def further_baselines(self) -> dict[str, dict[str, float]]:
        """More of what a network must beat, as `baseline`: in words → the metrics of that."""
        return {}

    def background(self, batch: Batch, site: str) -> list[Picture]:
        """A picture (H, W, 3) of each sample, for the map of the attention at this site to be drawn over; "": alone."""
        return shown(batch.inputs)

    def answers(self, model: nn.Module, inputs: Any) -> Any:
        """What `draw`, `predict` and `masks` take of a batch's inputs; here what the network gives for them."""
        return model(inputs)

    def draw(self, batch: Batch, given: Any) -> list[NDArray[np.uint8]]:
        """A picture (H, W, 3) of each sample with its target and, unless None, the network's answers."""
        return []

    def over(self, batch: Batch, given: Any) -> Over | None:
        """What is drawn over the maps of the attention, such as the boxes that the network gave; None: nothing."""
        return None

    def mistakes(
        self, model: nn.Module, scores: Scores, read: Callable[[list[int]], Iterator[Batch]]
    ) -> NDArray[np.uint8] | None:
        """A picture of what the network does well and badly on the items that were scored; None: nothing to show.

        read: items → their batches, on the network's device.
        """
        return None

    def remarks(self, model: nn.Module, batches: Iterator[Batch]) -> list[str]:
        """Notes on the trained network, a line each, from the batches of the held-out items on its device."""
        return []

    def legend(self, wide: int) -> NDArray[np.uint8] | None:
        """What the colours of `draw` mean, as a picture of about this width in pixels; None: nothing to say."""
        return None

    def predict(self, given: Any) -> list[dict[str, Any]]:
        """Answers as plain values a sample, such as {"class": "cat", "score": 0.93}."""
        raise ValueError(f"the task {type(self).__name__} has no predictions to write")

    def masks(self, given: Any) -> list[NDArray[Any]]:
        """Of a dense task: class numbers (*S) a sample, uint8, or uint16 for more than 256 classes."""
        raise ValueError(f"the task {type(self).__name__} has no masks to write")

    def target(self, name: str, kinds: Sequence[str]) -> Target:
        """The data set's target of this name. Raises: ValueError: if there is none, or it is of no such kind."""
        found = self.data.targets.get(name)
        if found is None or found.kind not in kinds:
            has = ", ".join(f"{key} ({one.kind})" for key, one in self.data.targets.items()) or "none"
            raise ValueError(f"{self.data.name}: wanted targets {name!r} ({' or '.join(kinds)}); it has {has}")
        return found


TASKS: Registry[Callable[..., Task]] = Registry("task", "foveate.tasks")
Class = TypeVar("Class", bound=Callable[..., Task])


def register_task(name: str) -> Callable[[Class], Class]:
    """Class decorator: a `Task` becomes available by name, as task = "name" in a study.

    Raises: ValueError: if the name is taken.
    """

    def decorate(cls: Class) -> Class:
        TASKS.add(name, cls)
        return cls

    return decorate


def create_task(name: str, data: Dataset, **options: Any) -> Task:
    """The task on a data set.

    Args:
        name: one of `TASKS.names()`, or "path.py:Class".
        data: with the targets that the task needs.
        options: of its constructor.

    Raises: LookupError: no such task. TypeError: no such option. ValueError: data or options that do not fit.
    """
    cls = read_from_file(name, "a class") if is_file_reference(name) else TASKS.get(name)
    check_options(f"task {name!r}", cls, options, skip=("self", "data"))
    task: Task = cls(data, **options)
    if not getattr(task, "metrics", ()) or not all(isinstance(metric, Metric) for metric in task.metrics):
        raise ValueError(f"task {name!r}: wanted metrics = (Metric(…), …), got {getattr(task, 'metrics', None)!r}")
    if not isinstance(getattr(task, "outputs", None), int):
        raise ValueError(f"task {name!r}: wanted outputs, the number of classes or values of the head")
    return task


def extra_losses(model: nn.Module) -> dict[str, Tensor]:
    """Losses that modules in the network have beside the task's: the batch means of their `losses()`, summed by name.

    A module that keeps losses of its last training pass has `losses() -> named tuple of (N,)`, as interaction-aware
    attention does ("interactive", "attention").
    """
    found: dict[str, Tensor] = {}
    for module in model.modules():
        own = getattr(module, "losses", None)
        if module.training and callable(own):
            for name, value in own()._asdict().items():
                mean = value.mean()
                found[name] = found[name] + mean if name in found else mean
    return found


def summed(
    main: Tensor, auxiliary: Sequence[tuple[float, Tensor]], extra: Mapping[str, Tensor], weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """{"loss": main + Σ weight · auxiliary + Σ weights[name] · extra[name], and each part by its name}.

    Raises: ValueError: if a part has no weight.
    """
    parts: dict[str, Tensor] = {}
    total = main
    for number, (weight, value) in enumerate(auxiliary, 1):
        total = total + weight * value
        parts[f"auxiliary{number}"] = value
    for name, value in extra.items():
        if name not in weights:
            raise ValueError(f"loss {name!r} of an inserted module: wanted its weight in [task_options] loss_weights")
        total = total + weights[name] * value
        parts[name] = value
    return {"loss": total, **({"main": main} if parts else {}), **parts}


def class_figures(names: Sequence[str], confusion: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Recall, precision and number of each class from counts of true (rows) by predicted class."""
    right, true, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    return {
        name: {
            "recall": float(right[k] / max(true[k], 1)),
            "precision": float(right[k] / max(predicted[k], 1)),
            "number": int(true[k]),
        }
        for k, name in enumerate(names)
    }


MOST_CONFUSED = 100  # classes whose confusion a run keeps
LOSS_WEIGHTS = {"interactive": 1e-4, "attention": 1e-4}  # beta and gamma of arXiv:1808.01106, which gives no values


def main_output(given: Any) -> Tensor:
    """The prediction among what a network gives: the tensor itself, the first of several, or the entry "out"."""
    if isinstance(given, Mapping):
        given = given["out"] if "out" in given else given["logits"] if "logits" in given else next(iter(given.values()))
    if isinstance(given, (list, tuple)):
        given = given[0]
    if not isinstance(given, Tensor):
        raise ValueError(f"wanted a network that gives tensors; got {type(given).__name__}")
    return given


def all_outputs(given: Any) -> list[Tensor]:
    """The prediction first, then the auxiliary outputs that are supervised as well."""
    main = main_output(given)
    rest = given.values() if isinstance(given, Mapping) else given if isinstance(given, (list, tuple)) else ()
    return [main, *(one for one in rest if isinstance(one, Tensor) and one is not main)]
