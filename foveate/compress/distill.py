"""Distillation: a network learns from its task and from what a trained one, its teacher, gives for the same batch.

    loss = (1 − a) · task + a · T² KL(softmax(t / T) ‖ softmax(s / T)) + b · similarity + c · attention

Sources: logits, Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531;
similarity of the items of a batch, Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019,
arXiv:1907.09682; attention maps, Zagoruyko, Komodakis, "Paying More Attention to Attention", ICLR 2017,
arXiv:1612.03928. Departures: no part needs layers of its own, so that any widths can be compared; the maps are those at
the end of each resolution that both networks have.
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.compression import Distillation
from foveate.data.dataset import Batch
from foveate.tasks.task import Task, main_output

Size = tuple[int, ...]


def distilled(task: Task, spec: Distillation, student: nn.Module, teacher: nn.Module, inputs: Any) -> Task:
    """A copy of the task whose loss has the teacher's part in it; it measures what the task measures.

    Args:
        student: the network to be trained.
        teacher: the trained one, on the same device; it is set to evaluation mode, and gets no gradients.
        inputs: of a batch of two or more.

    Raises: ValueError: if the teacher does not take these inputs, its outputs have other shapes, or there are no maps
        to compare.
    """
    new = copy.copy(task)
    vars(new)["loss"] = _Loss(task, spec, student, teacher, inputs)
    return new


def logits_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(softmax(teacher / T) ‖ softmax(student / T)) over axis 1, the mean over items and positions.

    Shape: (N, K, *S) both.
    """
    ours = F.log_softmax(student.float() / temperature, 1)
    theirs = F.log_softmax(teacher.float() / temperature, 1)
    return temperature**2 * F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1).mean()


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """‖Q_s / ‖Q_s‖ − Q_t / ‖Q_t‖‖², Q the means of squares over channels as vectors of positions; mean over items.

    Shape: (N, C, *S), (N, D, *S).
    """
    ours, theirs = (F.normalize(x.float().square().mean(1).flatten(1), dim=1) for x in (student, teacher))
    return (ours - theirs).square().sum(1).mean()


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """‖G_s − G_t‖² / N², G the products of the items' features, (N, N), each row of norm 1.

    Shape: (N, *any), (N, *any).
    """
    flat = [x.float().flatten(1) for x in (student, teacher)]
    ours, theirs = (F.normalize(x @ x.mT, dim=1) for x in flat)
    return (ours - theirs).square().sum() / len(ours) ** 2


class _Loss:
    def __init__(self, task: Task, spec: Distillation, student: nn.Module, teacher: nn.Module, inputs: Any) -> None:
        self.task, self.spec = task, spec
        self.teacher = teacher.eval().requires_grad_(False)
        modes = [(module, module.training) for module in student.modules()]
        try:
            ours, theirs = _last_of_each_size(student.eval(), inputs), _last_of_each_size(self.teacher, inputs)
        except (RuntimeError, ValueError, TypeError) as error:
            line = (str(error).splitlines() or [""])[0]
            raise ValueError(f"distill: the teacher or the network does not take these inputs: {line}") from None
        finally:
            for module, mode in modes:
                module.training = mode
        if ours.output != theirs.output:
            raise ValueError(f"distill: wanted a teacher with outputs {ours.output}; got {theirs.output}")
        both = [size for size in ours.modules if size in theirs.modules]
        if (spec.features or spec.attention) and not both:
            raise ValueError(
                f"distill: wanted maps of a size that both networks have; got {sorted(ours.modules)} and "
                f"{sorted(theirs.modules)}"
            )
        compared = bool(spec.features or spec.attention)
        self.names = [(ours.modules[size], theirs.modules[size]) for size in both] if compared else []

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The parts of the loss; "task" is the loss without the teacher."""
        spec = self.spec
        with torch.no_grad(), _outputs_of(self.teacher, [name for _, name in self.names]) as theirs:
            wanted = main_output(_run(self.teacher, batch.inputs))
        with _outputs_of(model, ["", *(name for name, _ in self.names)]) as ours:
            parts = self.task.loss(model, batch)
        found = dict(parts)
        found["task"] = found.pop("loss")
        total = (1 - spec.logits) * found["task"]
        if spec.logits:
            found["logits"] = logits_loss(main_output(ours[""]), wanted, spec.temperature)
            total = total + spec.logits * found["logits"]
        pairs = [(ours[name], theirs[other]) for name, other in self.names]
        for part, weight, loss in (
            ("features", spec.features, similarity_loss),
            ("attention", spec.attention, attention_loss),
        ):
            if weight:
                found[part] = torch.stack([loss(one, other) for one, other in pairs]).sum()
                total = total + weight * found[part]
        return {"loss": total, **found}


class _Seen:
    def __init__(self) -> None:
        self.modules: dict[Size, str] = {}
        self.output: tuple[int, ...] = ()


def _last_of_each_size(model: nn.Module, inputs: Any) -> _Seen:
    """The name of the last module that gives a map of each size, and the shape of the main output."""
    seen = _Seen()

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() > 2 and max(output.shape[2:]) > 1:
                seen.modules[tuple(output.shape[2:])] = name

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            seen.output = tuple(main_output(_run(model, inputs)).shape)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@contextlib.contextmanager
def _outputs_of(model: nn.Module, names: list[str]) -> Iterator[dict[str, Any]]:
    """What the modules of these names gave, once the model has run."""
    found: dict[str, Any] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(lambda _, args, output, name=name: found.update({name: output}))
        for name in dict.fromkeys(names)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _run(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, list | tuple) else model(inputs)
