"""Structured pruning: whole channels of a trained network are taken out.

Which channels belong together is read from the graph of the forward pass by torch-pruning (Fang et al., "DepGraph:
Towards Any Structural Pruning", CVPR 2023, arXiv:2301.12900); those with the smallest weights go (Li et al., "Pruning
Filters for Efficient ConvNets", ICLR 2017, arXiv:1608.08710). An attention mechanism is no part of that graph: it
follows the width of its map, as `foveate.compress.widths` says.
"""

import copy
import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from foveate.attention import made_by
from foveate.compress.widths import Narrowing
from foveate.insertion.probe import CHILD
from foveate.networks import PadShortcut, narrow_to

IMPORTANCE = ("magnitude", "random")
HEADS = ("heads", "num_heads")  # attributes of modules that cut their channels into heads
TOLERANCE = 1e-6  # of the check in float64, of the largest output


def prune(model: nn.Module, example: Any, amount: float = 0.5, *, importance: str = "magnitude") -> nn.Module:
    """A copy of the network with this part of the channels of every layer gone; train it further.

    The outputs keep their number, and so do the channels of what cannot lose some: zero-padded shortcuts, mechanisms
    that shuffle channels (`sa`), and layers whose channels are cut into heads.

    Args:
        model: any network, with or without attention in it.
        example: its input, as `foveate.insert` takes it.
        amount: part of the channels of each group of layers that go together, above 0 and below 1.
        importance: which stay: "magnitude", those with the largest weights, or "random".

    Returns: the network, in the mode of the one given, which stays as it was. `foveate.save` writes it.
    Raises: ValueError: in one line, if the package torch-pruning is missing, a value is out of range, nothing can be
        pruned, or what is left would compute something else.
    """
    if not 0 < amount < 1:
        raise ValueError(f"prune: wanted a part of the channels above 0 and below 1; got {amount}")
    if importance not in IMPORTANCE:
        raise ValueError(f"prune: importance must be one of {', '.join(map(repr, IMPORTANCE))}; got {importance!r}")
    state = _Traced(_torch_pruning(), model, example).pruned(amount, importance)
    new = copy.deepcopy(model)
    narrow_to(new, {name: tuple(value.shape) for name, value in state.items()})
    new.load_state_dict(state)
    _check_runs(model, new, example)
    return new


def _torch_pruning() -> Any:
    try:
        return importlib.import_module("torch_pruning")
    except ImportError as error:
        raise ValueError(
            f"pruning needs the package torch-pruning ({error}): pip install 'foveate[compress]'"
        ) from None


class _Follower:
    """torch-pruning's view of a mechanism: as many channels out as in, and the same.

    Args:
        channels: of the map of each mechanism.
        groups: parts of its channels that must lose the same places each.
    """

    def __init__(self, channels: Mapping[nn.Module, int], groups: Mapping[nn.Module, int]) -> None:
        self.keep = {module: list(range(count)) for module, count in channels.items()}
        self.groups = groups

    def prune_out_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
        gone = set(idxs)
        self.keep[layer] = [channel for place, channel in enumerate(self.keep[layer]) if place not in gone]
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: nn.Module) -> int:
        return len(self.keep[layer])

    get_in_channels = get_out_channels

    def get_out_channel_groups(self, layer: nn.Module) -> int:
        return self.groups.get(layer, 1)

    get_in_channel_groups = get_out_channel_groups


class _Padding:
    """torch-pruning's view of a zero-padded shortcut, which has more channels out than in; both must stay."""

    def __init__(self, channels: Mapping[nn.Module, int]) -> None:
        self.channels = channels

    def prune_out_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
        raise AssertionError("a group of layers with a fixed width is passed over")

    def prune_in_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
        raise AssertionError("a group of layers with a fixed width is passed over")

    def get_in_channels(self, layer: nn.Module) -> int:
        return self.channels[layer]

    def get_out_channels(self, layer: Any) -> int:
        return self.channels[layer] + int(layer.extra)

    def get_out_channel_groups(self, layer: nn.Module) -> int:
        return 1

    get_in_channel_groups = get_out_channel_groups


class _Traced:
    """A copy of the network in which every mechanism is the identity, for torch-pruning to trace and prune."""

    def __init__(self, tp: Any, model: nn.Module, example: Any) -> None:
        self.tp, self.example = tp, _on_cpu(example)
        self.network = copy.deepcopy(model).cpu().float().eval().requires_grad_(True)
        self.names = {module: name for name, module in self.network.named_modules()}
        mechanisms = {m: Narrowing.of(m) for m in self.network.modules() if _maps_one(m)}
        pads = [m for m in self.network.modules() if isinstance(m, PadShortcut)]
        channels, sizes = _maps(self.network, [*mechanisms, *pads], self.example)
        self.narrowings = {m: one for m, one in mechanisms.items() if one is not None and m in channels}
        self.fixed = {*pads, *(m for m in mechanisms if m not in self.narrowings)}
        groups = {m: one.groups for m, one in self.narrowings.items()}
        self.follower = _Follower({m: channels[m] for m in mechanisms if m in channels}, groups)
        self.padding = _Padding({m: channels[m] for m in pads if m in channels})
        for module, size in sizes.items():
            vars(module)["forward"] = partial(_pass, size, module.extra if isinstance(module, PadShortcut) else 0)
        for host in [m for m in self.network.modules() if CHILD in m._modules]:
            vars(host)["forward"] = partial(_then_pass, host.forward)  # its output and the mechanism's are two tensors

    def pruned(self, amount: float, importance: str) -> dict[str, Tensor]:
        """The state of the whole network with channels gone."""
        network = self.network
        whole = copy.deepcopy(network).double()
        try:
            with torch.enable_grad(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                warnings.simplefilter("ignore")
                gone = self._prune(amount, importance)
                same = _computes_the_same(whole, network, gone, self.example)
        except Exception as error:  # of a package that cannot follow every network
            line = (str(error).splitlines() or [""])[0][:200]
            raise ValueError(
                f"prune: torch-pruning cannot follow this network ({type(error).__name__}: {line})"
            ) from error
        if not gone:
            raise ValueError(f"prune: no layer of this network can lose {amount:g} of its channels")
        if not same:
            raise ValueError(
                "prune: the channels of this network cannot be followed: without some it computes something else "
                "(channels are shuffled, or cut into groups)"
            )
        state = network.state_dict()
        for module, one in self.narrowings.items():
            prefix = self.names[module]
            state |= {
                f"{prefix}.{name}": value for name, value in one.state(module, self.follower.keep[module]).items()
            }
        return state

    def _prune(self, amount: float, importance: str) -> list[tuple[str, list[int]]]:
        """Names of the layers that lost channels, and which."""
        tp, network = self.tp, self.network
        customized: dict[type, Any] = {type(module): self.follower for module in self.follower.keep}
        customized |= {type(module): self.padding for module in self.padding.channels}
        chosen = {"magnitude": tp.importance.MagnitudeImportance(p=2), "random": tp.importance.RandomImportance()}
        pruner = tp.pruner.BasePruner(
            network,
            self.example,
            importance=chosen[importance],
            pruning_ratio=amount,
            ignored_layers=[*self._last_layers(), *_with_heads(network)],
            customized_pruners=customized,
            forward_fn=_run_for_all_outputs,
            in_channel_groups={},
            out_channel_groups={},
        )
        gone: list[tuple[str, list[int]]] = []
        for group in pruner.step(interactive=True):
            layers = [dep.target.module for dep, _ in group]
            if any(layer in self.fixed or isinstance(layer, tp.ops._OutputOp) for layer in layers):
                continue
            gone += [
                (self.names[dep.target.module], list(places))
                for dep, places in group
                if dep.target.module in self.names and pruner.DG.is_out_channel_pruning_fn(dep.handler)
            ]
            group.prune()
        return gone

    def _last_layers(self) -> list[nn.Module]:
        """The layers that give the outputs."""
        given: list[tuple[Tensor, nn.Module]] = []
        layers = [module for module in self.network.modules() if isinstance(module, nn.Linear | _ConvNd)]
        hooks = [layer.register_forward_hook(lambda one, _, y: given.append((y, one))) for layer in layers]
        with torch.no_grad():
            outputs = _tensors(_run_for_all_outputs(self.network, self.example))
        for hook in hooks:
            hook.remove()
        return [module for tensor, module in given if any(tensor is one for one in outputs)]


def _run_for_all_outputs(network: nn.Module, example: Any) -> Any:
    """Those that it gives in training too, if it runs so without targets; its layers compute as in prediction."""
    for module in network.modules():
        module.training = any(name != CHILD for name in module._modules)
    try:
        return _run(network, example)
    except Exception:  # of a detector, which takes no images without boxes then
        return _run(network.eval(), example)
    finally:
        network.eval()


def _maps_one(module: nn.Module) -> bool:
    """Is it a mechanism that is given one map?"""
    made = made_by(module)
    return made is not None and made.name != "attention_gate"


def _maps(
    network: nn.Module, modules: Iterable[nn.Module], example: Any
) -> tuple[dict[nn.Module, int], dict[nn.Module, tuple[int, ...]]]:
    """Channels of the map that each module is given, and sides of the one that it gives."""
    channels: dict[nn.Module, int] = {}
    sizes: dict[nn.Module, tuple[int, ...]] = {}

    def see(module: nn.Module, inputs: Any, output: Tensor) -> None:
        channels[module], sizes[module] = inputs[0].shape[1], tuple(output.shape[2:])

    hooks = [module.register_forward_hook(see) for module in modules]
    with torch.no_grad():
        _run(network, example)
    for hook in hooks:
        hook.remove()
    return channels, sizes


def _pass(size: tuple[int, ...], extra: int, x: Tensor) -> Tensor:
    """The map itself, or its means where a stride makes it smaller; and channels of zeros behind it."""
    if size == x.shape[2:]:
        x = x * 1
    else:
        pool: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[len(size) - 1]
        x = pool(x, size)
    return F.pad(x, (0, 0) * len(size) + (0, extra)) if extra else x


def _then_pass(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return forward(*args, **kwargs) * 1


def _with_heads(network: nn.Module) -> list[nn.Module]:
    """The layers of modules that cut channels into heads, but for the mechanisms."""
    return [
        layer
        for module in network.modules()
        if made_by(module) is None and any(isinstance(getattr(module, name, None), int) for name in HEADS)
        for layer in module.modules()
        if isinstance(layer, nn.Linear | _ConvNd)
    ]


def _run(model: nn.Module, example: Any) -> Any:
    if isinstance(example, dict):
        return model(**example)
    return model(*example) if isinstance(example, list | tuple) else model(example)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _on_cpu(value: Any) -> Any:
    """The example on the CPU, its numbers in float32 and not all alike."""
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            return value.cpu()
        return torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
    if isinstance(value, Mapping):
        return {key: _on_cpu(one) for key, one in value.items()}
    return type(value)(_on_cpu(one) for one in value) if isinstance(value, list | tuple) else value


def _computes_the_same(whole: nn.Module, pruned: nn.Module, gone: list[tuple[str, list[int]]], example: Any) -> bool:
    """Does the network without its channels compute what it does with their weights at 0?

    It does unless the graph was misread, as where views shuffle channels. Norms over channels see how many there are:
    networks that lost some before such a norm are not compared.
    """
    with torch.no_grad():
        for name, places in gone:
            layer = whole.get_submodule(name)
            if isinstance(layer, nn.LayerNorm | nn.GroupNorm):
                return True
            if isinstance(layer, nn.Linear | _ConvNd | _BatchNorm):
                if layer.weight is None:
                    return True
                axis = 1 if isinstance(layer, _ConvTransposeNd) else 0
                layer.weight.index_fill_(axis, torch.tensor(places), 0)
                if layer.bias is not None:
                    layer.bias.index_fill_(0, torch.tensor(places), 0)
        x = _to_double(example)
        wanted, got = _tensors(_run(whole, x)), _tensors(_run(copy.deepcopy(pruned).double(), x))
    return all(
        one.shape == other.shape and bool((one - other).abs().max() <= TOLERANCE * one.abs().max())
        for one, other in zip(wanted, got, strict=True)
    )


def _to_double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: _to_double(one) for key, one in value.items()}
    return type(value)(_to_double(one) for one in value) if isinstance(value, list | tuple) else value


def _check_runs(model: nn.Module, new: nn.Module, example: Any) -> None:
    """Raise ValueError unless the pruned network runs and gives outputs of the same shapes."""
    modes = [(module, module.training) for module in (*model.modules(), *new.modules())]
    try:
        with torch.no_grad():
            shapes = [[tuple(one.shape) for one in _tensors(_run(one.eval(), example))] for one in (model, new)]
    except Exception as error:
        line = (str(error).splitlines() or [""])[0][:200]
        raise ValueError(f"prune: the pruned network does not run: {line}") from error
    finally:
        for module, mode in modes:
            module.training = mode
    if shapes[0] != shapes[1]:
        raise ValueError(f"prune: the pruned network gives outputs of {shapes[1]}; wanted {shapes[0]}")
