"""Which output of a network a class folder stands for."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache

IMAGENET = 1000


def number_classes(folders: Sequence[str], outputs: int, where: str) -> dict[str, int]:
    """The output of every class folder.

    As many folders as outputs are numbered in the order of their names. Fewer, or those of a network of 1000 outputs,
    must say which class of ImageNet they are: by WordNet identity ("n01440764"), name ("tench") or number ("0").

    Raises: ValueError: a folder that says nothing, in one line.
    """
    if outputs == IMAGENET:
        known = imagenet_names()
        found = {folder: known.get(_plain(folder)) for folder in folders}
        if all(number is not None for number in found.values()):
            return _each_once({folder: number for folder, number in found.items() if number is not None}, where)
        if len(folders) != outputs or any(number is not None for number in found.values()):
            odd = next(folder for folder, number in found.items() if number is None)
            near = get_close_matches(_plain(odd), list(known), 1)
            hint = f"; nearest: {near[0]!r}" if near else ""
            ambiguous = " (several classes are called so)" if _plain(odd) in _ambiguous() else ""
            raise ValueError(
                f"{where}: the network has ImageNet's {outputs} outputs; wanted class folders called as its classes "
                f"(n01440764, tench or 0); got {odd!r}{ambiguous}{hint}"
            )
    if len(folders) == outputs:
        return {folder: number for number, folder in enumerate(sorted(folders))}
    if all(folder.isdecimal() and int(folder) < outputs for folder in folders):
        return _each_once({folder: int(folder) for folder in folders}, where)
    raise ValueError(
        f"{where}: wanted {outputs} class folders, one an output of the network; got {len(folders)} "
        f"({', '.join(map(repr, sorted(folders)[:3]))}{', …' * (len(folders) > 3)})"
    )


def _each_once(numbers: dict[str, int], where: str) -> dict[str, int]:
    first: dict[int, str] = {}
    for folder, number in numbers.items():
        if number in first:
            raise ValueError(f"{where}: the folders {first[number]!r} and {folder!r} are the same class, {number}")
        first[number] = folder
    return numbers


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


@lru_cache(1)
def _synonyms() -> dict[str, set[int]]:
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    found: dict[str, set[int]] = {}
    for number in range(IMAGENET):
        for name in info.index_to_description(number).split(","):
            found.setdefault(_plain(name), set()).add(number)
    return found


def _ambiguous() -> set[str]:
    return {name for name, numbers in _synonyms().items() if len(numbers) > 1}


@lru_cache(1)
def imagenet_names() -> dict[str, int]:
    """Every name of a class of ImageNet that stands for one class alone → its number in the usual order."""
    from timm.data import ImageNetInfo
    from torchvision.models import get_model_weights

    names = {name: next(iter(numbers)) for name, numbers in _synonyms().items() if len(numbers) == 1}
    categories = [_plain(name) for name in get_model_weights("resnet18").DEFAULT.meta["categories"]]
    names |= {name: number for number, name in enumerate(categories) if name not in _ambiguous()}
    for number, identity in enumerate(ImageNetInfo().label_names()):
        names |= {identity: number, str(number): number}
    return names
