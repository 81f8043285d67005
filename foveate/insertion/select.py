"""Turns ``at=`` into sites."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from foveate.insertion.heads import head_sites
from foveate.insertion.layouts import layout_of, what_is_seen
from foveate.insertion.places import Branch, Places, consumer, gives_features, host_of, producer, site_at
from foveate.insertion.probe import CHILD, Call, Trace
from foveate.insertion.site import Site

KINDS = ("block", "stage", "head", "module")
RULES = ("block/2", "nonlocal-1", "nonlocal-5", "nonlocal-10")
Where = str | Sequence[str] | Sequence[Mapping[str, object]] | Callable[[str, nn.Module], bool]


def select(model: nn.Module, places: Places, at: Where) -> list[Site]:
    """The sites of ``at``, in the order in which the network reaches them.

    Raises:
        TypeError: if ``at`` is none of the forms in :data:`Where`.
        LookupError: if nothing matches; the message gives the nearest names.
        ValueError: if what matches cannot carry attention, or an mm-style entry has a wrong key.
    """
    if isinstance(at, str):
        chosen = _from_strings(model, places, [at])
    elif callable(at):
        names = [name for name, module in model.named_modules() if name and not _is_inserted(name) and at(name, module)]
        chosen = _usable(model, places, names, f"the modules for which {_title(at)} holds")
        if not chosen:
            raise LookupError(
                f"{_title(at)} holds for none of the {len(places.trace.times)} modules; {_overview(places)}"
            )
    elif isinstance(at, Sequence) and len(at) > 0 and all(isinstance(entry, str) for entry in at):
        chosen = _from_strings(model, places, [str(entry) for entry in at])
    elif isinstance(at, Sequence) and len(at) > 0 and all(isinstance(entry, Mapping) for entry in at):
        chosen = [site for entry in at if isinstance(entry, Mapping) for site in _positions(places, entry)]
    else:
        raise TypeError(
            f"wanted at= one of {', '.join(map(repr, KINDS))}, 'block/2', 'nonlocal-5', a glob over module names, a "
            "list of these, a function (name, module) -> bool, or a list of "
            f"{{'stages': ..., 'position': 'after_conv3'}}; got {at!r}"
        )
    return chosen


def distinct(chosen: list[Site]) -> list[Site]:
    """Each place once, with its innermost name: ``layer3`` and its last block are one place."""
    first: dict[tuple[str, str, int | None], Site] = {}
    for site in chosen:
        first.setdefault((site.attached_to, site.side, site.entry), site)
    return list(first.values())


def of_kind(places: Places, kind: str) -> list[Site]:
    """All sites of one kind.

    Raises:
        LookupError: if there is none; the message gives what there is.
    """
    trace = places.trace
    if kind == "head":
        return head_sites(places)
    if kind == "block":
        ends = [b.at for b in places.branches] or places.units
    elif kind == "stage":
        ends = [end for end, _ in places.stages]
    else:
        ends = sorted(
            (c for c in trace.calls if c.name and gives_features(trace, c)), key=lambda c: (c.ended, -c.index)
        )
    once = [c for c in ends if trace.called_once(c.name) and trace.called_once(host_of(places, c).name)]
    found = [site_at(places, call, kind) for call in dict.fromkeys(once)]
    if not found:
        raise LookupError(f"no {kind} sites: {_called_often(trace, ends) or _why_none(places, kind)}")
    return found


def _called_often(trace: Trace, ends: list[Call]) -> str:
    """What to do where the blocks are called several times in one pass; "" if that is not why there are none."""
    for call in ends:
        names = call.name.split(".")
        outer = [".".join(names[:i]) for i in range(1, len(names) + 1)]
        often = next((name for name in outer if trace.times.get(name, 0) > 1), None)
        if often is not None:
            return (
                f"{often} is called {trace.times[often]} times in one forward pass, as in a Siamese network or over "
                f"frames; insert into it alone, foveate.insert(model.{often}, ...) with an example of its own input, "
                "and each call runs the attention"
            )
    return ""


def _why_none(places: Places, kind: str) -> str:
    if places.unknown:
        return (
            f"the residual branches of this network end in {what_is_seen(places.trace, places.unknown[0].end)}; "
            "give globs over module names that yield maps"
        )
    if not any(gives_features(places.trace, c) for c in places.trace.calls):
        return "no module of this network gives a feature map (N, C, *S) or (N, *S, C), nor tokens (N, L, C) of a grid"
    if kind == "block":
        return (
            "neither a residual branch that ends in a module nor repeated units with convolutions were seen; give globs"
        )
    return "its blocks are not modules of their own; give globs over module names"


def _from_strings(model: nn.Module, places: Places, texts: list[str]) -> list[Site]:
    """Sites of strings: kinds, counting rules and globs."""
    chosen, globs = [], []
    for text in texts:
        ruled = of_kind(places, text) if text in KINDS else _by_rule(places, text) or _entries(places, text)
        if ruled is None:
            globs.append(text)
        else:
            chosen += ruled
    if globs:
        chosen += _matching(model, places, globs)
    return sorted(chosen, key=lambda s: (call := s.call(places.trace), call.ended, -call.index)[1:])


def _entries(places: Places, text: str) -> list[Site] | None:
    """The maps that ``"backbone:p*"`` names among those given to heads; None if ``text`` has no colon.

    Raises:
        LookupError: if it names none.
    """
    if ":" not in text:
        return None
    known = head_sites(places)
    found = [site for site in known if fnmatch.fnmatchcase(site.name, text)]
    if not found:
        raise LookupError(
            f"at={text!r} matches none of the maps that are given to prediction heads: "
            + ", ".join(site.name for site in known)
        )
    return found


def _matching(model: nn.Module, places: Places, patterns: list[str]) -> list[Site]:
    names = [name for name, _ in model.named_modules() if name and not _is_inserted(name)]
    hits: list[str] = []
    for pattern in patterns:
        matched = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matched:
            near = difflib.get_close_matches(pattern, [*KINDS, *RULES, *names], n=3, cutoff=0.4)
            raise LookupError(
                f"at={pattern!r} matches none of the {len(names)} modules; "
                + (f"nearest: {', '.join(near)}; " if near else "")
                + _overview(places)
            )
        hits += matched
    by_name = len(hits) == len(patterns) and set(hits) == set(patterns)
    return _usable(model, places, hits, ", ".join(patterns), every=by_name)


def _usable(model: nn.Module, places: Places, names: list[str], description: str, *, every: bool = False) -> list[Site]:
    """Those of ``names`` that give one map a pass; a ValueError with reasons if none (``every``: if not all) do."""
    reasons, calls = {}, []
    for name in dict.fromkeys(names):
        reason = _unusable(model, places, name)
        if reason is None:
            calls.append(places.trace.call_of(name))
        else:
            reasons[name] = reason
    if reasons and (every or not calls):
        few = [f"{name}: {reason}" for name, reason in list(reasons.items())[:3]]
        raise ValueError(f"no attention can stand at {description}:\n  " + "\n  ".join(few))
    calls.sort(key=lambda c: (c.ended, -c.index))
    return [site_at(places, call, "module") for call in calls]


def _unusable(model: nn.Module, places: Places, name: str) -> str | None:
    trace = places.trace
    times = trace.times.get(name, 0)
    if isinstance(model.get_submodule(name), torch.jit.ScriptModule):
        return "it is a TorchScript module, whose forward is fixed"
    if times == 0:
        return (
            "it is never called in a forward pass in eval mode (unused, a plain list of modules, or its weights are "
            "read directly by its parent, as MultiheadAttention does with out_proj)"
        )
    if times > 1:
        return (
            f"it is called {times} times in one forward pass, so one attention would stand at {times} places; of a "
            "head that several maps share, at='head' puts one before it for each map"
        )
    call = trace.call_of(name)
    if call.output is None:
        return f"it returns a {trace.kinds[name]}, no tensor (N, C, *S)"
    if layout_of(trace, call.output) is None:
        return f"it gives {what_is_seen(trace, call.output)}"
    if not trace.called_once(host_of(places, call).name):
        return "the module that ends it is called several times in one forward pass"
    return None


def _positions(places: Places, entry: Mapping[str, object]) -> list[Site]:
    """Sites of one mm-style entry ``{"stages": (False, True, True, True), "position": "after_conv3"}``."""
    known = ("stages", "position")
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"wanted the keys 'stages' and 'position' in at=[{{...}}], got {key!r}{hint}")
    position = entry.get("position", "after_conv3")
    match = re.fullmatch(r"after_conv([1-9])", position) if isinstance(position, str) else None
    if match is None:
        raise ValueError(f"wanted position 'after_conv1', 'after_conv2' or 'after_conv3', got {position!r}")
    stages = entry.get("stages", (True,) * len(places.stages))
    if not isinstance(stages, Sequence) or isinstance(stages, str) or not all(isinstance(s, bool) for s in stages):
        raise ValueError(f"wanted stages= a tuple of booleans, one a stage, got {stages!r}")
    if len(stages) != len(places.stages):
        raise ValueError(
            f"wanted stages= {len(places.stages)} booleans, one a stage of this network, got {len(stages)}"
        )
    if not places.branches:
        raise LookupError(
            "position= counts convolutions of residual branches; this network has none; give globs over module names"
        )
    chosen = [b for b in places.branches if (s := places.stage_of(b.call)) is not None and stages[s - 1]]
    number = int(match[1])
    most = max((len(b.convolutions(places.trace)) for b in chosen), default=0)
    if number > most:
        raise LookupError(
            f"position={position!r} matches nothing: the residual branches of the chosen stages have at most {most} "
            f"convolutions" + (f"; nearest: 'after_conv{most}'" if most else "; no stage was chosen")
        )
    sites = [_after_convolution(places, b, number) for b in chosen]
    return [site for site in sites if site is not None]


def _after_convolution(places: Places, branch: Branch, number: int) -> Site | None:
    """After the ``number``-th convolution of a branch, its norm and activation; None if the branch is shorter."""
    trace = places.trace
    convolutions = branch.convolutions(trace)
    if number > len(convolutions):
        return None
    if number == len(convolutions):
        return site_at(places, branch.at, "block")
    following = convolutions[number]
    before = next(n for n in trace.nodes[following].operands if n is not None)
    made_by = producer(trace, before)
    if made_by is not None:
        return site_at(places, made_by, "module")
    taken_by = consumer(trace, before, following)
    if taken_by is None:
        raise ValueError(
            f"after_conv{number} of {trace.calls[branch.call].name}: no module that runs once gives or takes the map"
        )
    return site_at(places, taken_by, "module", side="input")


def _is_inserted(name: str) -> bool:
    return CHILD in name.split(".")


def _title(function: Callable[..., object]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _overview(places: Places) -> str:
    """The block and stage sites, for error messages."""
    parts = []
    for kind in ("block", "stage"):
        try:
            found = of_kind(places, kind)
        except LookupError:
            continue
        shown = ", ".join(site.name for site in found[:3]) + (", ..." if len(found) > 3 else "")
        parts.append(f"{len(found)} {kind} sites ({shown})")
    return "found by looking: " + (" and ".join(parts) if parts else "no block or stage sites")


_NONLOCAL = {1: (0, 1), 5: (2, 3), 10: (4, 6)}
"""Number of blocks of res3 and res4, the second and third of four stages, by the number in the rule's name."""


def _by_rule(places: Places, text: str) -> list[Site] | None:
    """Sites of ``"block/2"`` or ``"nonlocal-5"``; None if ``text`` is of neither form.

    ``"block/2"``: the branch ends of every second block, counted through the network: the 2nd, the 4th, ...
    ``"nonlocal-1"``, ``"nonlocal-5"``, ``"nonlocal-10"``: the outputs of 1, 5 or 10 blocks as in Non-local Neural
    Networks (Wang, Girshick, Gupta, He, 2018): right before the last block of res4; 2 of res3 and 3 of res4, evenly;
    4 and 6.

    Raises:
        LookupError: if the network has no such blocks or stages.
    """
    every = re.fullmatch(r"block/([1-9][0-9]*)", text)
    if every is not None:
        return _every(places, int(every[1]))
    if text.startswith("nonlocal-"):
        number = text.removeprefix("nonlocal-")
        if number not in map(str, _NONLOCAL):
            raise LookupError(f"wanted at='nonlocal-1', 'nonlocal-5' or 'nonlocal-10', got {text!r}")
        return [_after(places, unit) for unit in _nonlocal(places, int(number))]
    return None


def _every(places: Places, step: int) -> list[Site]:
    ends = [(branch.call, branch.at) for branch in places.branches] or [(unit.index, unit) for unit in places.units]
    blocks = list(dict.fromkeys(block for block, _ in ends))
    if len(blocks) < step:
        raise LookupError(f"at='block/{step}' matches nothing: this network has {len(blocks)} blocks")
    chosen = set(blocks[step - 1 :: step])
    calls = dict.fromkeys(at for block, at in ends if block in chosen and places.trace.called_once(at.name))
    return [site_at(places, call, "block") for call in calls]


def _nonlocal(places: Places, number: int) -> list[Call]:
    text = f"at='nonlocal-{number}'"
    lengths = [len(units) for _, units in places.stages]
    if len(lengths) != 4:
        raise LookupError(
            f"{text} is about res3 and res4, the second and third of four stages; this network has {len(lengths)}; "
            "'block/2' counts blocks in any network"
        )
    if number == 1:
        if lengths[2] < 2:
            raise LookupError(f"{text} stands before the last block of the third stage, which has one block only")
        return [places.stages[2][1][-2]]
    found: list[Call] = []
    for stage, wanted in zip((1, 2), _NONLOCAL[number], strict=True):
        units = places.stages[stage][1]
        if len(units) < wanted:
            raise LookupError(
                f"{text} needs {' and '.join(map(str, _NONLOCAL[number]))} blocks in the second and third stage; they "
                f"have {lengths[1]} and {lengths[2]}; 'block/2' counts blocks in any network"
            )
        step = len(units) // wanted
        found += units[step - 1 :: step][:wanted]
    return found


def _after(places: Places, unit: Call) -> Site:
    if not places.trace.called_once(unit.name):
        raise LookupError(f"{unit.name} is called several times in one forward pass, so nothing can stand behind it")
    return site_at(places, unit, "module")
