"""Features of chosen layers during one run of a network, and the gradients of a score by them."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten


class MapLayer(Protocol):
    """What is watched: a module's name, which of its outputs, and how that becomes a map."""

    @property
    def name(self) -> str: ...

    @property
    def entry(self) -> int | None: ...

    @property
    def module(self) -> str: ...

    def as_maps(self, x: Tensor) -> Tensor: ...


class Watched:
    """The features of each layer in the last run.

    Attributes:
        given: {name of the layer: what the module gave}, in the form that the network has.
    """

    def __init__(self, layers: Sequence[MapLayer]) -> None:
        self.layers = {layer.name: layer for layer in layers}
        self.given: dict[str, Tensor] = {}

    def features(self) -> dict[str, Tensor]:
        """{name of the layer: (N, C, *S)}, detached."""
        return {name: self.layers[name].as_maps(x.detach()).float() for name, x in self.given.items()}

    def gradients(self, score: Tensor) -> dict[str, Tensor]:
        """{name of the layer: gradient of the score (N, C, *S)}; 0 for a layer that the score does not depend on.

        Raises: ValueError: if the score has no gradient by any of them.
        """
        names = list(self.given)
        if not score.requires_grad:
            raise ValueError(
                f"no gradient reaches {', '.join(names)}: the network is quantised, or computes without gradients; "
                "eigencam and the network's own gates need none"
            )
        found = torch.autograd.grad(score, [self.given[name] for name in names], allow_unused=True)
        gradients = {}
        for name, one in zip(names, found, strict=True):
            one = torch.zeros_like(self.given[name]) if one is None else one
            gradients[name] = self.layers[name].as_maps(one).detach().float()
        return gradients


@contextmanager
def watched(model: nn.Module, layers: Sequence[MapLayer], *, gradients: bool) -> Iterator[Watched]:
    """Keep what these layers give while this is open; the network is in evaluation mode and left as it was.

    Args:
        model: the network; frozen ones have gradients as well.
        layers: of `foveate.explain.layers`.
        gradients: are gradients wanted?

    Raises: ValueError: if the network is a TorchScript module, whose layers cannot be watched.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("a TorchScript module cannot be explained; give the network that it was made from")
    seen = Watched(layers)
    modules = dict(model.named_modules())
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(gradients))
        for layer in layers:

            def keep(_: nn.Module, __: Any, given: Any, layer: MapLayer = layer) -> Any:
                leaves, form = tree_flatten(given)
                number = layer.entry or 0
                kept = leaves[number]
                if gradients and not kept.requires_grad and kept.is_floating_point():
                    kept = kept.detach().requires_grad_()
                seen.given[layer.name] = kept
                leaves[number] = kept.clone() if gradients else kept  # what comes after may change it in place
                return tree_unflatten(leaves, form)

            stack.callback(modules[layer.module].register_forward_hook(keep).remove)
        yield seen


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without compiled graphs while this is open; every module's mode is put back."""
    modes = [(module, module.training) for module in model.modules()]
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            for module, _ in modes:
                module.training = False
            yield
        finally:
            for module, mode in modes:
                module.training = mode
