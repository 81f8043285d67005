"""Any network with chains of like blocks made deeper: one more block behind the last of a chain."""

from typing import Any

import torch
from torch import nn

from foveate.insertion.probe import preserve_state, run_example
from foveate.registry import nearest


def chains_of_blocks(model: nn.Module, example: Any) -> list[str]:
    """Names of the `nn.Sequential`s whose last two children are of one class and whose last keeps its map's shape.

    Children without children of their own are layers, and no blocks.

    Args:
        example: as `foveate.insert` takes it; the network is run on it once.
    """
    kept: dict[str, bool] = {}
    handles = []
    for name, chain in _chains(model).items():

        def compare(block: nn.Module, args: Any, output: Any, name: str = name) -> None:
            kept[name] = isinstance(output, torch.Tensor) and bool(args) and args[0].shape == output.shape

        handles.append(chain[-1].register_forward_hook(compare))
    try:
        with preserve_state(model):
            run_example(model, example)
    finally:
        for handle in handles:
            handle.remove()
    return [name for name, same in kept.items() if same]


def append_block(model: nn.Module, name: str, donor: nn.Module) -> None:
    """Put the last block of that chain in `donor`, another copy of the network with weights of its own, behind that of
    `model`, in place.

    Raises: ValueError: the network has no chain of blocks of this name.
    """
    chains = _chains(model)
    if name not in chains:
        raise ValueError(f"wanted a chain of blocks; got {name!r}; {nearest(name, chains)}")
    chain, block = chains[name], list(donor.get_submodule(name).children())[-1]
    number = len(chain)
    while str(number) in chain._modules:
        number += 1
    chain.add_module(str(number), block)


def _chains(model: nn.Module) -> dict[str, nn.Sequential]:
    found = {name: module for name, module in model.named_modules() if isinstance(module, nn.Sequential)}
    return {name: chain for name, chain in found.items() if len(chain) > 1 and _alike(chain[-2], chain[-1])}


def _alike(one: nn.Module, other: nn.Module) -> bool:
    return type(one) is type(other) and any(True for _ in other.children()) and any(True for _ in other.parameters())
