"""The steps of a module, from a trace: its calls and operations, and which takes what another gives."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

from torch import nn

from foveate.architecture import labels
from foveate.architecture.arranged import JOINS, SELECTIONS, VIEWS, ArrangedWatch
from foveate.insertion.probe import Call, Node

ARITHMETIC = {"×": "scaled", "+": "shifted", "−": "shifted", "÷": "scaled"}  # by a constant or a weight
INPUT = -1


@dataclass(frozen=True)
class Step:
    """One box of a figure.

    Attributes:
        name: dotted name of the module, "" of an operation.
        label, more: what it is; norms and activations that follow it.
        width: "240 → 60", of the channels; "" where they are not known or do not change.
        shape: of its first result, without the batch.
        takes: numbers of the steps that it takes results of; −1, −2, …: what the module is given, in its order.
        parameters: of the module.
        attention: name of the mechanism; "": it is none.
        permutation: of channels, where it only reorders them: result ← source.
        repeats: how often it stands in a row.
        block: number of the block that shows its inside; None: it has none to show.
    """

    name: str
    label: str
    shape: tuple[int, ...]
    takes: tuple[int, ...]
    more: tuple[str, ...] = ()
    width: str = ""
    parameters: int = 0
    attention: str = ""
    permutation: tuple[int, ...] = ()
    repeats: int = 1
    block: int | None = None


@dataclass
class Part:
    """A step that is being put together. owner: the call that it is; None: an operation; takes: numbers of parts."""

    owner: Call | None
    nodes: list[Node]
    takes: list[int] = field(default_factory=list)
    step: Step | None = None


Named = Callable[[Call], str]


def steps_of(
    watch: ArrangedWatch, call: Call, expanded: Collection[int], attention: Named
) -> tuple[list[Step], list[Call | None]]:
    """The steps of a call in the order in which they run, and the call that each is.

    Args:
        expanded: numbers of the calls below it whose inside is shown in place of them.
        attention: the name of the mechanism that a call is, or "".
    """
    parts, maker = _parts(watch, call, expanded)
    for part in parts:
        part.step = _step(watch, part, attention)
    steps, calls, place = _folded(parts)
    given = [call.output] if call.output is not None else [node for _, node in call.entries.values()]
    ends = {place.get(maker[node], maker[node]) for node in given if node in maker}
    return _needed(steps, calls, ends)


def _parts(watch: ArrangedWatch, call: Call, expanded: Collection[int]) -> tuple[list[Part], dict[int, int]]:
    """The parts, and which of them made each node; views are no parts, except those that reorder channels."""
    parts: list[Part] = []
    maker: dict[int, int] = {}
    of_call: dict[int, int] = {}
    given = {node: INPUT - number for number, node in enumerate(dict.fromkeys(call.inputs))}
    for node in _nodes_of(watch, call):
        owner = _owner(watch, node, call, expanded)
        sources = list(dict.fromkeys(maker.get(parent, given.get(parent, INPUT)) for parent in node.parents))
        if owner is None:
            if _is_only_another_view(watch, node) and sources:
                maker[node.index] = sources[0]
                continue
            same = parts[-1] if parts else None
            if same and same.owner is None and same.nodes[0].op == node.op and same.nodes[0].parents == node.parents:
                same.nodes.append(node)  # several results of one operation
                maker[node.index] = len(parts) - 1
                continue
            maker[node.index] = len(parts)
            parts.append(Part(None, [node], sources))
            continue
        if owner.index not in of_call:
            of_call[owner.index] = len(parts)
            parts.append(Part(owner, []))
        number = of_call[owner.index]
        parts[number].nodes.append(node)
        parts[number].takes += [source for source in sources if source != number]
        maker[node.index] = number
    for part in parts:
        part.takes = list(dict.fromkeys(part.takes))
    return parts, maker


def _nodes_of(watch: ArrangedWatch, call: Call) -> list[Node]:
    """What was made while the call ran."""
    first = max(call.inputs, default=-1)
    nodes = watch.trace.nodes[: call.ended]
    found = []
    for node in reversed(nodes):
        if call.index in node.scope:
            found.append(node)
        elif found and node.index <= first:
            break
    return [node for node in reversed(found) if node.op != "input"]


def _owner(watch: ArrangedWatch, node: Node, call: Call, expanded: Collection[int]) -> Call | None:
    """The outermost call below `call`, not expanded, that made the node."""
    calls = watch.trace.calls
    below = node.scope[node.scope.index(call.index) + 1 :]
    return next((calls[index] for index in below if index not in expanded), None)


def _is_only_another_view(watch: ArrangedWatch, node: Node) -> bool:
    return node.op in VIEWS and not _reorders(watch, node)


def _reorders(watch: ArrangedWatch, node: Node) -> bool:
    channels = watch.arranged.get(node.index, ())
    whole = len(channels) > 1 and sorted(channels) == list(range(len(channels)))
    return node.op in VIEWS and node.is_map and whole and channels != tuple(range(len(channels)))


def _step(watch: ArrangedWatch, part: Part, attention: Named) -> Step:
    first, last = part.nodes[0], part.nodes[-1]
    shape = last.shape[1:] if part.owner is not None else first.shape[1:]
    if part.owner is not None:
        call = part.owner
        name = attention(call)
        label = name or labels.module_label(call.module)
        parameters = sum(p.numel() for p in call.module.parameters())
        return Step(call.name, label, shape, (), width=_width(call.module), parameters=parameters, attention=name)
    channels = watch.arranged.get(first.index, ())
    if _reorders(watch, first):
        return Step("", labels.permutation_label(channels), shape, (), permutation=channels)
    label = labels.operation_label(first.op)
    if first.op in SELECTIONS and first.parents:
        of = watch.trace.nodes[first.parents[0]].shape
        texts = [
            labels.selection_label(watch.arranged[node.index], of[1])
            for node in part.nodes
            if node.index in watch.arranged and len(of) > 2
        ]
        return Step("", label, shape, (), more=tuple(dict.fromkeys(filter(None, texts))))
    return Step("", label, shape, ())


def _width(module: nn.Module) -> str:
    """ "64 → 256", of a convolution or linear layer."""
    if isinstance(module, nn.Linear):
        return f"{module.in_features:,} → {module.out_features:,}"
    if hasattr(module, "in_channels") and hasattr(module, "out_channels"):
        return f"{module.in_channels:,} → {module.out_channels:,}"
    return ""


def _folded(parts: list[Part]) -> tuple[list[Step], list[Call | None], dict[int, int]]:
    """The steps, their calls, and the step that each part is in.

    Norms and activations become lines of the step before them, where that gives to nothing else; an operation that is
    done twice on the same results is one step.
    """
    users: dict[int, set[int]] = {}
    for number, part in enumerate(parts):
        for source in part.takes:
            users.setdefault(source, set()).add(number)
    kept: list[Step] = []
    calls: list[Call | None] = []
    place = {source: source for part in parts for source in part.takes if source < 0}
    for number, part in enumerate(parts):
        step = part.step
        assert step is not None
        takes = tuple(dict.fromkeys(place[source] for source in part.takes))
        alone = len(part.takes) == 1 and part.takes[0] >= 0 and users[part.takes[0]] == {number}
        line = _line(part, step)
        if line and alone and not kept[takes[0]].attention:
            before = kept[takes[0]]
            added = _parameters_of(part)
            kept[takes[0]] = replace(
                before, more=(*before.more, line), shape=step.shape, parameters=before.parameters + added
            )
            place[number] = takes[0]
            continue
        if part.owner is None and len(takes) == 1:
            step = replace(step, label=ARITHMETIC.get(step.label, step.label))
        step = replace(step, takes=takes)
        again = next((at for at, one in enumerate(kept) if part.owner is None and one == step), len(kept))
        place[number] = again
        if again == len(kept):
            kept.append(step)
            calls.append(part.owner)
    return kept, calls, place


def _parameters_of(part: Part) -> int:
    return 0 if part.owner is None else sum(p.numel() for p in part.owner.module.parameters())


def _line(part: Part, step: Step) -> str:
    """The line that the step becomes below the one before it; "" where it is a step of its own."""
    if part.owner is not None:
        return step.label if labels.folds(part.owner.module) and not step.attention else ""
    if step.permutation or part.nodes[0].op in JOINS | SELECTIONS:
        return ""
    if len(part.takes) == 1 and step.label in ARITHMETIC:
        return ARITHMETIC[step.label]
    return step.label if part.nodes[0].op in labels.FOLDED else ""


def _needed(steps: list[Step], calls: list[Call | None], ends: Iterable[int]) -> tuple[list[Step], list[Call | None]]:
    """The steps that the results come from, numbered anew: without what is computed for a capture alone."""
    needed = set[int]()
    open_ = list(ends) or list(range(len(steps)))
    while open_:
        number = open_.pop()
        if number not in needed and number >= 0:
            needed.add(number)
            open_ += steps[number].takes
    order = sorted(needed)
    place = {number: at for at, number in enumerate(order)}
    kept = [replace(steps[n], takes=tuple(place.get(source, source) for source in steps[n].takes)) for n in order]
    return kept, [calls[n] for n in order]
