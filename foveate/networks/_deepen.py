"""Any network with chains of equal blocks made deeper: one more block behind the last of a chain."""

from torch import nn

from foveate.networks._head import shapes_of
from foveate.registry import nearest


def chains_of_equal_blocks(model: nn.Module) -> list[str]:
    """Names of the `nn.Sequential`s whose last two children are blocks of the same class and shapes.

    A chain whose blocks have no parameters is none.
    """
    return [name for name, module in model.named_modules() if name and _is_chain(module)]


def append_block(model: nn.Module, name: str, donor: nn.Module) -> None:
    """Put the last block of that chain in `donor`, another copy of the network with weights of its own, behind that of
    `model`, in place.

    Raises: ValueError: the network has no chain of equal blocks of this name.
    """
    chains = chains_of_equal_blocks(model)
    if name not in chains:
        raise ValueError(f"wanted a chain of equal blocks; got {name!r}; {nearest(name, chains)}")
    chain = model.get_submodule(name)
    assert isinstance(chain, nn.Sequential)
    block = list(donor.get_submodule(name).children())[-1]
    number = len(chain)
    while str(number) in chain._modules:
        number += 1
    chain.add_module(str(number), block)


def _is_chain(module: nn.Module) -> bool:
    blocks = list(module.children()) if isinstance(module, nn.Sequential) else []
    if len(blocks) < 2 or type(blocks[-1]) is not type(blocks[-2]):
        return False
    before, last = (shapes_of(block) for block in blocks[-2:])
    return before == last and any(True for _ in blocks[-1].parameters()) and len(list(blocks[-1].modules())) > 1
