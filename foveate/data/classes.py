"""Which output of a network a class of the data stands for."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache

IMAGENET = 1000


def number_classes(
    labels: Sequence[str], outputs: int, where: str, *, names: Sequence[str] = ()
) -> tuple[dict[str, int], str]:
    """The output of every class, and in words how the classes were numbered.

    Where the network's own list of classes is known, that decides. Else a network of 1000 outputs has those of
    ImageNet, called by WordNet identity ("n01440764"), name ("tench") or number ("0"). Else as many classes as outputs
    are numbered in the order of their names, as training on class folders numbers them; fewer must be called by their
    numbers, and a number must be the same in the order of names.

    Args:
        labels: the classes of the data, each once.
        outputs: of the network.
        where: the data, for errors.
        names: of the network's classes, in the order of its outputs; () where they are not known.

    Raises: ValueError: if a class says nothing of its output, or two stand for one, in one line.
    """
    if names:
        return _by_list(labels, outputs, where, names), "by the network's own list of classes"
    if outputs == IMAGENET:
        known = imagenet_names()
        found = {label: known.get(_plain(label)) for label in labels}
        if all(number is not None for number in found.values()):
            numbers = {label: number for label, number in found.items() if number is not None}
            return _each_once(numbers, where), "as ImageNet's classes, by what they are called"
        if len(labels) != outputs or any(number is not None for number in found.values()):
            odd = next(label for label, number in found.items() if number is None)
            near = get_close_matches(_plain(odd), list(known), 1)
            hint = f"; nearest: {near[0]!r}" if near else ""
            ambiguous = " (several classes are called so)" if _plain(odd) in _ambiguous() else ""
            raise ValueError(
                f"{where}: the network has ImageNet's {outputs} outputs; wanted class folders called as its classes "
                f"(n01440764, tench or 0); got {odd!r}{ambiguous}{hint}"
            )
    if len(labels) == outputs:
        return {label: number for number, label in enumerate(sorted(labels))}, "in the order of their names"
    if all(label.isdecimal() and int(label) < outputs for label in labels):
        return _by_number(labels, outputs, where), "by their numbers"
    raise ValueError(
        f"{where}: wanted {outputs} class folders, one an output of the network; got {len(labels)} "
        f"({', '.join(map(repr, sorted(labels)[:3]))}{', …' * (len(labels) > 3)})"
    )


def _by_list(labels: Sequence[str], outputs: int, where: str, names: Sequence[str]) -> dict[str, int]:
    if len(names) != outputs or len(set(names)) != len(names):
        raise ValueError(f"classes of the network: wanted {outputs} different names; got {len(set(names))}")
    exact = {name: number for number, name in enumerate(names)}
    alike = {_plain(name): number for name, number in exact.items()}
    numbers = {}
    for label in labels:
        number = exact.get(label, alike.get(_plain(label)))
        if number is None:
            near = get_close_matches(label, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{where}: the network has no class {label!r}{hint}")
        numbers[label] = number
    return _each_once(numbers, where)


def _by_number(labels: Sequence[str], outputs: int, where: str) -> dict[str, int]:
    """Decimal names as numbers. Unless they are filled with zeros, "10" comes before "2" in the order of names, in
    which training numbers them: with some classes missing, both are possible."""
    filled = any(label[0] == "0" and len(label) > 1 for label in labels)
    by_name = {label: number for number, label in enumerate(sorted(map(str, range(outputs))))}
    for label in labels:
        if not filled and by_name.get(label) != int(label):
            raise ValueError(
                f"{where}: {len(labels)} of {outputs} classes: {label!r} may be output {int(label)} or, in the order "
                f"of names, {by_name.get(label)}; wanted the network's classes in order (--classes)"
            )
    return _each_once({label: int(label) for label in labels}, where)


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
