"""The figure of a whole network: its steps, and each kind of block and of attention once."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from foveate.architecture import labels
from foveate.architecture.arranged import ArrangedWatch
from foveate.architecture.steps import Step, steps_of
from foveate.attention import attention_class, list_attention, made_by
from foveate.insertion.places import CONTAINERS, find_places
from foveate.insertion.probe import CHILD, Call, probe

ROWS = 40  # of the overview, about; deeper modules are then not opened


@dataclass(frozen=True)
class Block:
    """The inside of a kind of module. name: of the first that is drawn; alike: number of all that have these steps;
    inputs: what it calls that which it is given."""

    title: str
    name: str
    attention: bool
    alike: int
    inputs: tuple[str, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Architecture:
    """A network as a figure shows it.

    Attributes:
        name: of the network. shape: of one sample (C, *S).
        steps: from input to output, modules that are alike and follow one another as one.
        blocks: the kinds of block, then the kinds of attention, in the order in which they run.
        attention: mechanism → number of modules.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    steps: tuple[Step, ...]
    blocks: tuple[Block, ...]
    attention: dict[str, int]


def describe(model: nn.Module, example: Any, name: str = "") -> Architecture:
    """Run the network once on the example and read its steps.

    Args:
        model: any network, also on the meta device; its state does not change.
        example: a batch (N, C, *S), a tuple of arguments, or a dictionary of keyword arguments.

    Raises: ValueError: the network refuses the example.
    """
    watch = ArrangedWatch()
    trace = probe(model, example, watch)
    described = _Describing(watch)
    root = trace.calls[0]
    steps, calls = steps_of(watch, root, described.opened, described.name_of)
    blocks: list[Block] = []
    kinds: dict[tuple[Any, ...], int] = {}
    shown = [
        replace(step, block=None if call is None else described.block(call, blocks, kinds))
        for step, call in zip(steps, calls, strict=True)
    ]
    found: dict[str, int] = {}
    for call in described.outermost_attention():
        found[described.name_of(call)] = found.get(described.name_of(call), 0) + 1
    sample = next(node.shape[1:] for node in trace.nodes if node.op == "input")
    parameters = sum(p.numel() for p in model.parameters())
    order = sorted(range(len(blocks)), key=lambda number: blocks[number].attention)
    place = {number: at for at, number in enumerate(order)}

    def placed(step: Step) -> Step:
        return step if step.block is None else replace(step, block=place[step.block])

    whole = tuple(replace(blocks[n], steps=tuple(map(placed, blocks[n].steps))) for n in order)
    rows = tuple(map(placed, _in_rows(shown)))
    return Architecture(name or type(model).__name__, sample, parameters, rows, whole, found)


class _Describing:
    """What of a trace is shown as one step, and what is opened."""

    def __init__(self, watch: ArrangedWatch) -> None:
        self.watch, self.trace = watch, watch.trace
        calls = self.trace.calls
        known = {attention_class(name): name for name in list_attention()}
        self.names = [_attention_name(call, known) for call in calls]
        self.above: list[tuple[int, ...]] = []
        self.below: list[set[int]] = [set() for _ in calls]
        for call in calls:
            self.above.append(() if call.parent is None else (call.parent, *self.above[call.parent]))
            for up in self.above[-1]:
                self.below[up].add(call.index)
        self.units = {unit.index for unit in find_places(self.trace).units}
        self.opened = self._opened(set())
        if sum(call.parent in self.opened and call.index not in self.opened for call in calls) > ROWS:
            self.opened = self._opened(self._repeated())

    def _opened(self, closed: set[int]) -> set[int]:
        """The root, containers, and what has a block or attention inside; nothing in what stays closed."""
        holders = {up for index in self.units | self._attention() for up in self.above[index]}
        return {
            call.index
            for call in self.trace.calls
            if call.parent is None
            or (
                (call.index in holders or isinstance(call.module, CONTAINERS))
                and not self.names[call.index]
                and not {call.index, *self.above[call.index]} & (self.units | closed)
            )
        }

    def _repeated(self) -> set[int]:
        """Modules in a row of at least two of their class."""
        found = set[int]()
        for call in self.trace.calls:
            if isinstance(call.module, CONTAINERS) or call.parent is None or not call.children:
                continue
            kind, parent = type(call.module), self.trace.calls[call.parent]
            alike = [child for child in parent.children if type(self.trace.calls[child].module) is kind]
            if len(alike) > 1:
                found.add(call.index)
        return found

    def name_of(self, call: Call) -> str:
        """The mechanism that a call is; "" of another module."""
        return self.names[call.index]

    def _attention(self) -> set[int]:
        return {call.index for call in self.outermost_attention()}

    def outermost_attention(self) -> list[Call]:
        """The calls of mechanisms that lie in no other."""
        return [
            call
            for call in self.trace.calls
            if self.names[call.index] and not any(self.names[i] for i in self.above[call.index])
        ]

    def block(self, call: Call, blocks: list[Block], kinds: dict[tuple[Any, ...], int]) -> int | None:
        """The number of the block of its kind, made where it is the first; None: it has no inside of several steps."""
        name = self.name_of(call)
        below = self.below[call.index]
        if not below and not name:
            return None
        opened = {
            index
            for index in below
            if self.trace.calls[index].children
            and (not self.name_of(self.trace.calls[index]) or bool(name))
            and not (index in self.units and not name)
        }
        steps, calls = steps_of(self.watch, call, opened, (lambda c: "") if name else self.name_of)
        if len(steps) < 2:
            return None
        kind = (
            type(call.module).__name__,
            name,
            tuple((_kind(s.label), tuple(map(_kind, s.more)), s.takes) for s in steps),
        )
        if kind in kinds:
            number = kinds[kind]
            blocks[number] = replace(blocks[number], alike=blocks[number].alike + 1)
            if not name:  # what lies in it is counted too
                for inner in calls:
                    if inner is not None:
                        self.block(inner, blocks, kinds)
            return number
        number = kinds[kind] = len(blocks)
        title = name or type(call.module).__name__
        blocks.append(Block(title, call.name, bool(name), 1, _inputs(call), ()))
        whole = [
            replace(step, block=None if inner is None or name else self.block(inner, blocks, kinds))
            for step, inner in zip(steps, calls, strict=True)
        ]
        blocks[number] = replace(blocks[number], steps=tuple(whole))
        return number


def _inputs(call: Call) -> tuple[str, ...]:
    """Names of the forward method's arguments, one for each tensor that the call was given."""
    names = [name for name in inspect.signature(call.module.forward).parameters if name not in ("args", "kwargs")]
    count = len(dict.fromkeys(call.inputs))
    return tuple(names[:count]) if len(names) >= count else tuple(f"x{number + 1}" for number in range(count))


def _attention_name(call: Call, known: Mapping[type[nn.Module], str]) -> str:
    """The mechanism that a module is, as `create_attention` calls it, or its class; "" where it is none.

    Inserted modules, mechanisms of ours (`known`), and classes of others whose name says that they are attention.
    """
    module = call.module
    if (made := made_by(module)) is not None:
        return made.name
    title = type(module).__name__
    if call.name.rpartition(".")[2] == CHILD:
        return next((made.name for one in module.modules() if (made := made_by(one)) is not None), title)
    if (own := next((known[cls] for cls in type(module).__mro__ if cls in known), None)) is not None:
        return own
    says_so = any(word in title.lower() for word in labels.ATTENTION_WORDS)
    return title if says_so and not any(word in title for word in labels.HOLDERS) else ""


def _kind(label: str) -> str:
    """A label without numbers of channels."""
    return re.sub(r"channels? \d+–?\d*( of \d+)?|\d+ groups of \d+", "channels", label)


def _in_rows(steps: list[Step]) -> list[Step]:
    """Steps that are alike and follow one another, as one with their number."""
    users: dict[int, int] = {}
    for step in steps:
        for source in step.takes:
            users[source] = users.get(source, 0) + 1
    rows: list[Step] = []
    place: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, step in enumerate(steps):
        takes = tuple(dict.fromkeys(place.get(source, source) for source in step.takes))
        before = rows[-1] if rows else None
        alike = (
            before is not None
            and takes == (len(rows) - 1,)
            and users.get(last[len(rows) - 1], 0) == 1
            and step.block is not None
            and (before.label, before.block, before.shape, before.width)
            == (step.label, step.block, step.shape, step.width)
        )
        if alike and before is not None:
            rows[-1] = replace(before, repeats=before.repeats + 1, parameters=before.parameters + step.parameters)
        else:
            rows.append(replace(step, takes=takes))
        place[number] = len(rows) - 1
        last[len(rows) - 1] = number
    return rows
