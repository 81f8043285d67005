"""Forms of ``at=`` that count blocks: every k-th, and the non-local paper's rule."""

from __future__ import annotations

import re

from foveate.insertion._probe import Call
from foveate.insertion._sites import Places, Site, site_at

_NONLOCAL = {1: (0, 1), 5: (2, 3), 10: (4, 6)}
"""Blocks wanted of res3 and res4, the second and third of four stages, by the number in the rule's name."""


def counted(places: Places, text: str) -> list[Site] | None:
    """Sites of ``"block/2"`` or ``"nonlocal-5"``; None if ``text`` is of neither form.

    ``"block/2"``: the branch ends of every second block, counted through the network: the 2nd, the 4th, ...
    ``"nonlocal-1"``, ``"nonlocal-5"``, ``"nonlocal-10"``: the outputs of so many blocks as in Non-local Neural Networks
    (Wang, Girshick, Gupta, He, 2018): right before the last block of res4; 2 of res3 and 3 of res4, evenly; 4 and 6.

    Raises:
        LookupError: the network has no such blocks or stages.
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
            f"{text} speaks of res3 and res4, the second and third of four stages; this network has {len(lengths)}; "
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
                f"{text} wants {' and '.join(map(str, _NONLOCAL[number]))} blocks in the second and third stage; they "
                f"have {lengths[1]} and {lengths[2]}; 'block/2' counts blocks in any network"
            )
        step = len(units) // wanted
        found += units[step - 1 :: step][:wanted]
    return found


def _after(places: Places, unit: Call) -> Site:
    if not places.trace.called_once(unit.name):
        raise LookupError(f"{unit.name} is called several times in one forward pass, so nothing can stand behind it")
    return site_at(places, unit, "module")
