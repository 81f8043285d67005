"""What a search may try: mechanism × options × place × start, and candidates proposed by Optuna's sampler.

The sampler is made anew for each proposal from the rows of the search so far; it keeps nothing.
"""

import importlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from foveate.insertion import Site
from foveate.variant import At, Insertion, Variant

MECHANISMS: dict[str, tuple[dict[str, Any], ...]] = {  # what is tried where nobody names mechanisms, with their options
    "se": ({"reduction": 4}, {"reduction": 16}),
    "eca": ({}, {"kernel_size": 3}),
    "cbam": ({"reduction": 4}, {"reduction": 16}, {"reduction": 4, "kernel_size": 3}),
    "ca": ({}, {"reduction": 8}),
    "gc": ({"ratio": 0.25}, {}),
    "scse": ({},),
    "sge": ({"groups": 8},),
    "sa": ({"groups": 8},),
}
STARTUP = 4  # candidates with a known gain, before which the sampler draws at random
RETRIES = 150  # proposals of the sampler for each new one, before what is left is drawn from at random
Tried = tuple["Choice", float]  # with its mean gain


@dataclass(frozen=True)
class Choice:
    """A point of a space: names and numbers of what is chosen."""

    attention: str
    options: int
    place: str
    start: str


@dataclass(frozen=True)
class Space:
    """mechanisms: name → its options to choose from; places: in words → where; starts: "paper", "identity"."""

    mechanisms: Mapping[str, tuple[dict[str, Any], ...]]
    places: Mapping[str, At]
    starts: tuple[str, ...] = ("paper", "identity")

    def every(self) -> list[Choice]:
        """Every point, in a fixed order."""
        return [
            Choice(name, number, place, start)
            for name, sets in self.mechanisms.items()
            for number, place, start in product(range(len(sets)), self.places, self.starts)
        ]

    def variant(self, choice: Choice) -> Variant:
        """The variant of a study, its label all that is chosen."""
        options = self.mechanisms[choice.attention][choice.options]
        given = {"attention": choice.attention, "options": options, "init": choice.start}
        named = Insertion.model_validate(given).name
        return Variant.model_validate({**given, "at": self.places[choice.place], "label": f"{named} {choice.place}"})


def given_mechanisms(pairs: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, tuple[dict[str, Any], ...]]:
    """Names with options as of --attention; one without is tried with those of `MECHANISMS`, or its defaults."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, options in pairs:
        sets = [options] if options else list(MECHANISMS.get(name, ({},)))
        found.setdefault(name, []).extend(one for one in sets if one not in found.get(name, []))
    return {name: tuple(sets) for name, sets in found.items()}


def places_of(sites: Sequence[Site]) -> dict[str, At]:
    """Places of a network with these sites, in words: every block, every stage, and the blocks of each stage alone."""
    blocks = [site for site in sites if site.kind == "block" and site.side == "output" and site.entry is None]
    stages = [site for site in sites if site.kind == "stage"]
    found: dict[str, At] = {}
    if blocks:
        found["at every block"] = "block"
    if len(stages) > 1:
        found["at every stage"] = "stage"
    numbers = sorted({site.stage for site in blocks if site.stage is not None})
    for number in numbers if len(numbers) > 1 else ():
        found[f"at the blocks of stage {number}"] = [site.name for site in blocks if site.stage == number]
    return found


def require_optuna() -> Any:
    """The package. Raises: ValueError: it is missing."""
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise ValueError(f"advise needs the package optuna ({error}): pip install 'foveate[search]'") from None


def propose(space: Space, tried: Sequence[Tried], known: Sequence[Choice], count: int, seed: int) -> list[Choice]:
    """Up to `count` points that are not known yet, by Optuna's tree-structured Parzen estimator; fewer at the end of
    the space.

    Args:
        tried: points with their mean gains, from the rows of the search so far.
        known: every point that was proposed before.
        seed: of the sampler; the same arguments give the same points.
    """
    optuna = require_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    every = optuna.distributions.CategoricalDistribution
    for choice, gain in tried:
        values = _values(space, choice)
        kinds = {name: every(among) for name, (_, among) in values.items()}
        params = {name: value for name, (value, _) in values.items()}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=kinds, value=gain))
    found: list[Choice] = []
    for _ in range(RETRIES * count):
        trial = study.ask()
        choice = _suggested(space, trial)
        if choice in known or choice in found:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        found.append(choice)  # its trial stays open, which keeps the sampler away from it
        if len(found) == count:
            return found
    left = [choice for choice in space.every() if choice not in known and choice not in found]
    random.Random(seed).shuffle(left)
    return found + left[: count - len(found)]


def _values(space: Space, choice: Choice) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Parameter → its value, and what it is chosen among."""
    numbers = tuple(range(len(space.mechanisms[choice.attention])))
    return {
        "attention": (choice.attention, tuple(space.mechanisms)),
        f"options of {choice.attention}": (choice.options, numbers),
        "place": (choice.place, tuple(space.places)),
        "start": (choice.start, space.starts),
    }


def _suggested(space: Space, trial: Any) -> Choice:
    name = trial.suggest_categorical("attention", tuple(space.mechanisms))
    number = trial.suggest_categorical(f"options of {name}", tuple(range(len(space.mechanisms[name]))))
    place = trial.suggest_categorical("place", tuple(space.places))
    return Choice(name, number, place, trial.suggest_categorical("start", space.starts))
