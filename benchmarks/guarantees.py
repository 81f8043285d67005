"""The guarantees of insertion, each a measurement on one network with one mechanism."""

import copy
import io
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import timm
import torch
from guarantee_networks import Case, enliven
from torch import Tensor, nn

from foveate.insertion import Blend, insert, inserted, remove

Verdict = bool | str | None  # holds, why it does not, does not apply
LIMIT = 1e-6  # relative
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"reduction": 4} for name in ("se", "cbam", "bam", "temporal", "cbam_temporal")},
    **{name: {"groups": 8} for name in ("sge", "sk")},
    "gc": {"ratio": 0.25},
    "sa": {"groups": 4},
}
"""Of mechanisms whose own are for wider networks than those of eight channels here."""
GUARANTEES = {
    "alive": "outputs are finite and change once the attention is given half a say: identity is not vacuous",
    "identity": "outputs at insertion equal the plain network's, relative difference at most 1e-6",
    "untouched": "classes (isinstance), modes, hooks, requires_grad, devices and dtypes of the network's own modules",
    "keys": "the network's own keys and values are in the state dict; the plain checkpoint loads with strict=True",
    "remove": "outputs, state dict, classes, attributes are the plain network's again, bit for bit",
    "deepcopy": "the copy gives the same outputs and shares nothing",
    "pickle": "the same",
    "weights_only": "torch.save of the state dict, torch.load(weights_only=True), strict into another copy",
    "channels_last": "identity holds in that memory format",
    "AMP": "identity holds under bfloat16 autocast, with the same dtype",
    "checkpointing": "timm's set_grad_checkpointing: the same outputs and gradients, in every inserted module",
    "EMA": "timm's ModelEmaV3 gives the same outputs",
    "features": "timm's features_only: identity holds for every feature map",
}


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in what a network gives."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors(item)


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [y.clone() for y in tensors(model(x))]


def difference(one: list[Tensor], other: list[Tensor]) -> float:
    """The largest relative difference of two outputs; infinite where a detector finds another number of boxes."""
    if [y.shape for y in one] != [y.shape for y in other]:
        return math.inf
    pairs = [(a.double(), b.double()) for a, b in zip(one, other, strict=True) if a.numel()]
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in pairs)


def attended(model: nn.Module, x: Tensor, mechanism: str, init: str = "identity") -> int:
    """Insert at the blocks, or at the stages where there are none; the number of modules."""
    options = OPTIONS.get(mechanism, {})
    try:
        return len(insert(model, mechanism, at="block", example=x, init=init, seed=0, **options))
    except LookupError:
        return len(insert(model, mechanism, at="stage", example=x, init=init, seed=0, **options))


def let_speak(model: nn.Module) -> None:
    """Give the inserted attention half a say, and break the symmetry of those that start at zero by themselves."""
    generator = torch.Generator().manual_seed(3)
    for module in dict(inserted(model)).values():
        if isinstance(module, Blend):
            module.strength.data.fill_(0.5)
        else:
            for p in module.parameters():
                width = max(1, p[0].numel()) if p.dim() else 1
                p.data.add_(0.3 * width**-0.5 * torch.randn(p.shape, generator=generator))


def own_facts(model: nn.Module) -> list[tuple[Any, ...]]:
    """What must not change of the network's own modules; the class apart."""
    facts = []
    for name, module in model.named_modules():
        if "foveate" in name.split("."):
            continue
        held = module.named_parameters(recurse=False)
        weights = [(key, id(p), p.requires_grad, p.dtype, p.device) for key, p in held]
        hooks = [tuple(getattr(module, key)) for key in vars(module) if key.endswith("hooks") and "load" not in key]
        attributes = sorted(key for key in vars(module) if not key.startswith("_") and key != "grad_checkpointing")
        facts.append((name, module.training, weights, hooks, attributes))
    return facts


def measure(case: Case, mechanism: str) -> tuple[int, float, dict[str, Verdict]]:
    """Every guarantee on one network: number of modules, relative difference at insertion, what holds."""
    model, x = case.build(), case.example()
    plain = copy.deepcopy(model)
    before = outputs(model, x)
    first = next(m for m in model.modules() if next(m.parameters(recurse=False), None) is not None)
    handle = first.register_forward_hook(lambda m, args, output: None)
    next(first.parameters(recurse=False)).requires_grad_(False)
    for index, module in enumerate(model.modules()):
        module.training = index % 3 == 0
    classes, facts = [type(m) for m in model.modules()], own_facts(model)
    modes = {name: module.training for name, module in model.named_modules()}
    state = copy.deepcopy(model.state_dict())  # with its metadata, which torchvision's mnasnet asks for
    count = attended(model, x, mechanism)
    holds: dict[str, Verdict] = {}
    own = [m for n, m in model.named_modules() if "foveate" not in n.split(".")]
    kinds = all(isinstance(m, kind) for m, kind in zip(own, classes, strict=True))
    holds["untouched"] = (own_facts(model) == facts and kinds) or "something of the network's own changed"
    model.eval()
    gap = difference(outputs(model, x), before)
    holds["identity"] = gap <= LIMIT or f"relative difference {gap:.1e}"
    holds["keys"] = _keys(model, state)
    holds["channels_last"] = _channels_last(model, plain, x)
    holds["AMP"] = _autocast(model, plain, x)
    let_speak(model)
    active = outputs(model, x)
    holds["alive"] = _alive(before, active)
    for name, copied in (("deepcopy", copy.deepcopy), ("pickle", _pickled), ("weights_only", _through_weights),
                         ("EMA", _average)):  # fmt: skip
        holds[name] = _holds(lambda copied=copied: _same(copied(model), model, x, active))
    holds["checkpointing"] = _holds(lambda: _checkpointed(model, x, active))
    remove(model)
    for name, module in model.named_modules():
        module.training = modes[name]
    again = own_facts(model) == facts and [type(m) for m in model.modules()] == classes
    now = model.state_dict()
    whole = list(now) == list(state) and all(torch.equal(value, state[key]) for key, value in now.items())
    plain.load_state_dict(model.state_dict(), strict=True)
    model.eval()
    equal = all(torch.equal(a, b) for a, b in zip(outputs(model, x), before, strict=True))
    kept = {"attributes": again, "state dict": whole, "outputs": equal}
    holds["remove"] = all(kept.values()) or f"not as before: {', '.join(k for k, same in kept.items() if not same)}"
    handle.remove()
    holds["features"] = _features(case, mechanism, x)
    return count, gap, {name: holds[name] for name in GUARANTEES}


def _holds(check: Callable[[], Verdict]) -> Verdict:
    """The verdict; an error is the reason why not."""
    try:
        return check()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"


def _keys(model: nn.Module, state: dict[str, Tensor]) -> Verdict:
    now = model.state_dict()
    if [key for key in now if "foveate" not in key.split(".")] != list(state):
        return "other keys"
    if not all(torch.equal(now[key], value) for key, value in state.items()):
        return "other values"
    model.load_state_dict(state, strict=True)
    return True


def _alive(before: list[Tensor], active: list[Tensor]) -> Verdict:
    if not all(bool(y.isfinite().all()) for y in [*before, *active]):
        return "outputs are not finite"
    return difference(active, before) > 1e-4 or f"outputs change by {difference(active, before):.1e} only"


def _channels_last(model: nn.Module, plain: nn.Module, x: Tensor) -> Verdict:
    if x.dim() != 4:
        return None
    layout = torch.channels_last
    try:
        other = copy.deepcopy(plain).to(memory_format=layout)
    except RuntimeError:
        return None  # nor does the plain network, as it has weights of five axes
    one = copy.deepcopy(model).to(memory_format=layout)
    gap = difference(outputs(one, x.to(memory_format=layout)), outputs(other, x.to(memory_format=layout)))
    return gap <= LIMIT or f"relative difference {gap:.1e}"


def _autocast(model: nn.Module, plain: nn.Module, x: Tensor) -> Verdict:
    with torch.autocast("cpu", torch.bfloat16):
        try:
            want = outputs(plain, x)
        except RuntimeError:
            return None  # nor does the plain network
        got = outputs(model, x)
    if [y.dtype for y in got] != [y.dtype for y in want]:
        return "another dtype"
    gap = difference(got, want)
    return gap <= LIMIT or f"relative difference {gap:.1e}"


def _same(twin: nn.Module, model: nn.Module, x: Tensor, active: list[Tensor]) -> Verdict:
    shared = {id(p) for p in twin.parameters()} & {id(p) for p in model.parameters()}
    if shared or len(inserted(twin)) != len(inserted(model)):
        return "shares weights, or lost a module"
    return all(torch.equal(a, b) for a, b in zip(outputs(twin, x), active, strict=True)) or "other outputs"


def _pickled(model: nn.Module) -> nn.Module:
    hooks = [(m, m._forward_hooks) for m in model.modules() if m._forward_hooks]
    for module, held in hooks:
        module._forward_hooks = type(held)()  # a lambda of ours, which cannot be pickled
    try:
        twin: nn.Module = pickle.loads(pickle.dumps(model))
        return twin
    finally:
        for module, held in hooks:
            module._forward_hooks = held


def _through_weights(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    twin = copy.deepcopy(model)
    for tensor in (*twin.parameters(), *twin.buffers()):
        tensor.data.zero_()
    kept = model.state_dict().keys()
    fixed = {key: value for key, value in model.named_buffers() if key not in kept}
    for key, value in twin.named_buffers():
        if key in fixed:
            value.copy_(fixed[key])
    twin.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    return twin


def _average(model: nn.Module) -> nn.Module:
    average = timm.utils.ModelEmaV3(model, decay=0.5)
    average.update(model)
    module: nn.Module = average.module
    return module


def _gradients(model: nn.Module, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    given = list(tensors(model(x)))
    weights = [p for m in dict(inserted(model)).values() for p in m.parameters()]
    found = torch.autograd.grad(sum(y.square().sum() for y in given), weights, allow_unused=True)
    return [y.detach() for y in given], [torch.zeros(1) if g is None else g for g in found]


def _checkpointed(model: nn.Module, x: Tensor, active: list[Tensor]) -> Verdict:
    if not hasattr(model, "set_grad_checkpointing"):
        return None
    try:
        model.set_grad_checkpointing(True)
    except (AssertionError, NotImplementedError):
        return None
    try:
        given, gradients = _gradients(model, x)
        model.set_grad_checkpointing(False)
        _, expected = _gradients(model, x)
        scale = max(float(e.abs().max()) for e in expected)
        if scale == 0:
            return "no gradient reaches the attention"
        gap = max(float((g - e).abs().max()) / scale for g, e in zip(gradients, expected, strict=True))
        gap = max(gap, difference(given, active))
        return gap <= 1e-3 or f"relative difference {gap:.1e}"
    finally:
        model.set_grad_checkpointing(False)


def _features(case: Case, mechanism: str, x: Tensor) -> Verdict:
    if case.family != "timm" or mechanism != "se":
        return None
    try:
        model = enliven(timm.create_model(case.name, features_only=True), x)
    except (RuntimeError, AttributeError, TypeError, ValueError):
        return None  # the family has none

    def check() -> Verdict:
        before = outputs(model, x)
        attended(model, x, mechanism)
        gap = difference(outputs(model, x), before)
        return gap <= LIMIT or f"relative difference {gap:.1e}"

    return _holds(check)
