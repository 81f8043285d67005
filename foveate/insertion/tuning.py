"""Fine-tuning: freeze the network around its new attention, unfreeze it by stage, learning rates by origin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from foveate.insertion.blend import Blend
from foveate.insertion.places import Places
from foveate.insertion.probe import CHILD, Call, Trace
from foveate.registry import nearest
from foveate.spec import STRENGTH_FACTOR

KEPT = "_foveate_frozen"
"""Attribute of a frozen module: its :class:`Frozen`."""

FRESH = "_foveate_fresh"
"""Attribute of a module with untrained parameters in a trained network: their names in the module, a tuple."""


@dataclass
class Frozen:
    """The state of a module before it was frozen, and its stage.

    Attributes:
        trainable: names of its direct parameters that required gradients.
        training: the mode to restore; ``model.train()`` and ``model.eval()`` update it.
        stage: 0 before the first stage, 1 to n in the stages, n + 1 behind the last.
        stages: n.
    """

    trainable: tuple[str, ...]
    training: bool
    stage: int
    stages: int


def freeze_network(model: nn.Module, places: Places) -> None:
    """Turn gradients off for everything but attention; norms with running statistics stay in eval mode."""
    stage_of = _stages_by_name(places)
    fresh = {
        id(getattr(module, key)) for _, module in _network(model) for key in vars(module).get(FRESH, ())
    }  # of a tensor that two modules share, one may have the mark
    for name, module in _network(model):
        if KEPT in vars(module):
            continue
        own = [(key, p) for key, p in module.named_parameters(recurse=False) if id(p) not in fresh]
        trainable = tuple(key for key, p in own if p.requires_grad)
        measures = module._buffers.get("running_mean") is not None and FRESH not in vars(module)
        if not trainable and not measures:
            continue
        vars(module)[KEPT] = Frozen(trainable, module.training, stage_of(name), len(places.stages))
        for key in trainable:
            parameter = getattr(module, key)
            parameter.requires_grad_(False)
            parameter.grad = None  # an optimiser would go on applying it
        if measures:
            vars(module)["train"] = partial(_stay_in_eval, module)
            module.training = False


def mark_fresh(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """Mark parameters as untrained in a network whose other weights are trained: a new classifier.

    ``insert(..., freeze="base")`` leaves them trainable, and norms among them in the network's mode. The mark is an
    attribute of the module that has the parameter; it is copied and pickled with the module and is not in the state
    dict. :func:`foveate.remove` leaves it.

    Args:
        model: the network, in place.
        names: of parameters, or of modules for all parameters in them, such as ``["fc"]``; names of buffers are
            skipped, so that a list of keys of the state dict will do.

    Returns:
        The same object.

    Raises:
        LookupError: if the network has no such parameter or module.
    """
    modules = dict(model.named_modules())
    marks: list[tuple[nn.Module, tuple[str, ...]]] = []
    for name in names:
        path, _, key = name.rpartition(".")
        if name in modules and name:
            marks += [(m, tuple(m._parameters)) for m in modules[name].modules() if m._parameters]
        elif path in modules and key in modules[path]._parameters:
            marks.append((modules[path], (key,)))
        elif path not in modules or key not in modules[path]._buffers:
            known = [*modules, *(known for known, _ in model.named_parameters())]
            raise LookupError(f"the network has no parameter or module {name!r}; {nearest(name, known)}")
    for module, keys in marks:
        given = [key for key in keys if module._parameters[key] is not None]
        vars(module)[FRESH] = tuple(dict.fromkeys([*vars(module).get(FRESH, ()), *given]))
    return model


def unfreeze(model: nn.Module, stages: int | Iterable[int] | None = None) -> nn.Module:
    """Unfreeze what ``insert(..., freeze="base")`` froze: everything, or some stages, in any order.

    Parameters that required gradients before do so again, and norms get the mode that ``model.train()`` or
    ``model.eval()`` last set; what you had frozen before the insertion stays frozen.

    Args:
        model: the network, in place.
        stages: numbers as ``foveate sites`` shows them, from 1; 0 is what comes before the first stage and -1 what
            comes behind the last (the classifier), -2 the last stage, and so on. None: everything.

    Returns:
        The same object.

    Raises:
        LookupError: if nothing is frozen. ValueError: if the network has no such stage.
    """
    frozen = [(module, vars(module)[KEPT]) for module in model.modules() if KEPT in vars(module)]
    if not frozen:
        raise LookupError('nothing here was frozen; insert(..., freeze="base") does that')
    count = frozen[0][1].stages + 2
    numbers = range(count) if stages is None else [stages] if isinstance(stages, int) else list(stages)
    for number in numbers:
        if not -count <= number < count:
            raise ValueError(
                f"wanted stages from 0 (before the first) to {count - 1} (behind the last), or -1 to {-count} from the "
                f"end; got {number}"
            )
    wanted = {number % count for number in numbers}
    for module, kept in frozen:
        if kept.stage in wanted:
            _unfreeze_module(module, kept)
    return model


def unfreeze_all(model: nn.Module) -> None:
    """As :func:`unfreeze` of everything, without an error if nothing is frozen."""
    for module in model.modules():
        if KEPT in vars(module):
            _unfreeze_module(module, vars(module)[KEPT])


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    attention_lr: float | None = None,
    strength_lr: float | None = None,
    weight_decay: float = 0.0,
    norm_weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Groups for any ``torch.optim`` optimiser: the network's weights and the inserted attention's, by origin.

    Every parameter of the model is in exactly one group, frozen ones too: an optimiser of torch skips a parameter
    without a gradient (no step, no weight decay). The groups may be made before :func:`unfreeze`; the same optimiser
    then trains what was unfrozen. A network without attention gives the groups of its own weights alone, so both arms
    of a comparison take the same call.

    Args:
        model: any module.
        lr: learning rate of the network's own weights.
        attention_lr: of the inserted attention; None: ``lr``.
        strength_lr: of the learned blend of an identity start; None: 10 times ``attention_lr``. At the attention's own
            rate the blend ends a short fine-tuning where it began (docs/insertion.md has the figures).
        weight_decay: of matrices and convolution kernels.
        norm_weight_decay: of parameters with at most one axis: norms, biases, strengths.

    Returns:
        Up to five dictionaries with ``"name"`` ("base", "base, norms", "attention", "attention, norms", "strength"),
        ``"params"``, ``"lr"`` and ``"weight_decay"``; empty groups are left out.

    Raises:
        ValueError: if no parameter requires gradients, or a rate is negative.
    """
    rates = {
        "lr": lr,
        "attention_lr": attention_lr,
        "strength_lr": strength_lr,
        "weight_decay": weight_decay,
        "norm_weight_decay": norm_weight_decay,
    }
    for key, value in rates.items():
        if value is not None and not value >= 0:
            raise ValueError(f"wanted {key}= 0 or more, got {value!r}")
    own = {id(p) for _, module in _network(model) for p in module.parameters(recurse=False)}
    strengths = {id(module.strength) for module in model.modules() if isinstance(module, Blend)}
    attention_lr = lr if attention_lr is None else attention_lr
    strength_lr = STRENGTH_FACTOR * attention_lr if strength_lr is None else strength_lr
    groups: dict[str, dict[str, Any]] = {}
    for origin, rate in (("base", lr), ("attention", attention_lr)):
        for suffix, decay in (("", weight_decay), (", norms", norm_weight_decay)):
            groups[origin + suffix] = {"name": origin + suffix, "params": [], "lr": rate, "weight_decay": decay}
    groups["strength"] = {"name": "strength", "params": [], "lr": strength_lr, "weight_decay": norm_weight_decay}
    for parameter in model.parameters():
        if id(parameter) in strengths:
            groups["strength"]["params"].append(parameter)
            continue
        name = ("base" if id(parameter) in own else "attention") + ("" if parameter.dim() > 1 else ", norms")
        groups[name]["params"].append(parameter)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("no parameter of this model takes gradients; foveate.unfreeze(model) undoes freeze='base'")
    return [group for group in groups.values() if group["params"]]


def _network(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that are not inside an inserted one."""
    return ((name, m) for name, m in model.named_modules() if CHILD not in name.split("."))


def _stay_in_eval(norm: nn.Module, mode: bool = True) -> nn.Module:
    """``train`` of a frozen norm; attention in it follows the mode."""
    vars(norm)[KEPT].training = mode
    norm.training = False
    for child in norm.children():
        child.train(mode)
    return norm


def _unfreeze_module(module: nn.Module, kept: Frozen) -> None:
    for key in kept.trainable:
        getattr(module, key).requires_grad_(True)
    if vars(module).pop("train", None) is not None:
        module.training = kept.training
    del vars(module)[KEPT]


def _stages_by_name(places: Places) -> Callable[[str], int]:
    """A function from module names to 0 … n + 1, read from the order in which the trace reached them."""
    trace, count = places.trace, len(places.stages)
    begins = [units[0].index for _, units in places.stages]
    over = max((_last(trace, call) for end, units in places.stages for call in (end, *units)), default=-1)
    calls: dict[str, Call] = {}
    for call in trace.calls:
        calls.setdefault(call.name, call)

    def stage_of(name: str) -> int:
        while name and name not in calls:
            name = name.rpartition(".")[0]  # never called: its parent reads its weights
        call = calls.get(name)
        if call is None or not count:
            return 0
        number = places.stage_of(call.index)
        if number is not None:
            return number
        return count + 1 if call.index > over else sum(begin <= call.index for begin in begins)

    return stage_of


def _last(trace: Trace, call: Call) -> int:
    while call.children:
        call = trace.calls[call.children[-1]]
    return call.index
