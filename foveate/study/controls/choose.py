"""Which controls a study runs: for each variant and form one network, matched to what the variant adds."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import nn

from foveate.controls import Control, Form, Layer
from foveate.costs import costs, macs, parameters
from foveate.counting import count
from foveate.insertion import inserted, insertions
from foveate.networks import (
    InnerWidth,
    build_larger,
    chains_of_blocks,
    extra_layers,
    grew_by,
    inner_widths,
    origin_of,
    widen_until,
)
from foveate.spec import Run, Variant
from foveate.study.controls.build import NoControl
from foveate.study.controls.match import (
    MOST_SHARE,
    Place,
    channels_more,
    layers_of_macs,
    layers_of_parameters,
    layers_of_share,
)

if TYPE_CHECKING:
    from foveate.study.plan import Planner

STEP = 1 / 64  # between factors of widths
BUDGET_S = 3.0  # of one measurement of latencies
Size = tuple[int, int]  # parameters, and multiply-adds of a batch of two


@dataclass(frozen=True)
class Chosen:
    """A control: what its runs differ in from the variant's.

    Attributes:
        form: as in `foveate.spec.Study.controls`.
        matches: names of the variants that it is for.
        variant: what is inserted before it is changed; the plain network for wider, block and longer.
        width, control: as of a `Run`; epochs: of training, where they are not the study's.
    """

    form: Form
    matches: tuple[str, ...]
    variant: Variant
    width: float = 1.0
    control: Control | None = None
    epochs: int | None = None

    @property
    def label(self) -> str:
        return f"{self.form} control of {', '.join(self.matches)}"

    def to_json(self) -> dict[str, Any]:
        control = None if self.control is None else asdict(self.control)
        variant = self.variant.model_dump(mode="json")
        return vars(self) | {"matches": list(self.matches), "variant": variant, "control": control}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Chosen":
        control = content["control"] and Control(**content["control"])
        variant = Variant.model_validate(content["variant"])
        return cls(**{**content, "matches": tuple(content["matches"]), "variant": variant, "control": control})


def choose_controls(planner: "Planner", runs: dict[str, Run], sizes: dict[str, Size]) -> tuple[list[Chosen], list[str]]:
    """The controls in the order of the study's forms and variants, and notes on those that cannot be.

    Variants whose controls are the same network share one.

    Args:
        runs, sizes: of the study's variants by name, the plain network first.
    """
    study, chooser, notes = planner.study, _Chooser(planner, runs, sizes), list[str]()
    found: list[Chosen] = []
    others = [variant.name for variant in study.variants if variant.is_other_network]
    smaller = [variant.name for variant in study.variants if variant.is_smaller and not variant.is_other_network]
    if smaller:
        notes.append(f"what is pruned or learns from a teacher has no control: {', '.join(smaller)}")
    if others:
        notes.append(f"other networks have no control, their costs stand in the table: {', '.join(others)}")
    for form in study.controls or ("conv",):
        for name, run in runs.items():
            if run.variant.is_plain or name in (*others, *smaller):
                continue
            try:
                one = chooser.choose(form, name)
            except NoControl as error:
                notes.append(f"{name} has no control of the form {form!r}: {error}")
                if study.controls:
                    continue
                try:
                    one = chooser.choose("shuffled", name)
                except NoControl as again:
                    notes[-1] += f"; nor one of the form 'shuffled': {again}"
                    continue
                notes[-1] += "; its control is the same attention with channels and positions shuffled"
            found.append(one)
    return _shared(found), notes


def _shared(found: list[Chosen]) -> list[Chosen]:
    """Equal ones once, with all the variants that they are for."""
    shared: list[Chosen] = []
    for one in found:
        at = next((i for i, other in enumerate(shared) if replace(other, matches=()) == replace(one, matches=())), None)
        if at is None:
            shared.append(one)
        else:
            shared[at] = replace(one, matches=(*shared[at].matches, *one.matches))
    return shared


class _Chooser:
    def __init__(self, planner: "Planner", runs: dict[str, Run], sizes: dict[str, Size]) -> None:
        self.planner, self.runs, self.sizes = planner, runs, sizes
        self.study = planner.study
        self.plain = next(name for name, run in runs.items() if run.variant.is_plain)
        self.axis = 1 if self.study.control == "macs" else 0
        self.what = ("parameters", "multiply-adds")[self.axis]
        self.size, self.inner = cache(self._size), cache(self._inner_widths)

    def choose(self, form: Form, name: str) -> Chosen:
        """Raises: NoControl: with the reason."""
        variant = self.runs[name].variant
        if form == "frozen" or form == "shuffled":
            return self._placebo(form, name, variant)
        if form == "longer":
            return Chosen(form, (name,), Variant(), epochs=self._epochs(name))
        if form == "conv":
            return Chosen(form, (name,), variant, control=Control(form=form, layers=self._layers(name)))
        if self.study.weights is not None:
            larger = "wider" if form == "wider" else "deeper"
            raise NoControl(f"these weights do not fit a {larger} network")
        if form == "wider":
            return self._wider(name)
        return Chosen(form, (name,), Variant(), control=Control(form=form, block=self._chain(name)))

    def _added(self, name: str) -> int:
        """What the variant has more than the plain network, of what is matched; of one sample."""
        added = (self.sizes[name][self.axis] - self.sizes[self.plain][self.axis]) // (1 + self.axis)
        if added <= 0:
            raise NoControl(f"it adds no {self.what}")
        return added

    def _size(self, width: float, block: str = "") -> Size:
        control = Control(form="block", block=block) if block else None
        return self.planner.size(self.planner.run(Variant(), width, control=control))

    def _placebo(self, form: Form, name: str, variant: Variant) -> Chosen:
        chosen = Chosen(form, (name,), variant, control=Control(form=form))
        model = self.planner.build(self._run(chosen))
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise NoControl("nothing of it would be trained")
        if form == "frozen" and not any(True for _, module in inserted(model) for _ in module.parameters()):
            raise NoControl("its attention has no weights")
        return chosen

    def _layers(self, name: str) -> tuple[Layer, ...]:
        if self.study.control == "latency":
            return self._layers_as_slow(name)
        added, places = self._added(name), self._places(name)
        match = layers_of_macs if self.axis else layers_of_parameters
        layers = match(places, added)
        if not any(layer.hidden for layer in layers):
            raise NoControl(
                f"it adds {added:,} {self.what} at {len(places)} site{'s' if len(places) > 1 else ''}, fewer than one "
                "hidden channel of a 1×1 layer"
            )
        return layers

    def _places(self, name: str) -> list[Place]:
        model = self.planner.build(self.runs[name]).eval()
        entries, modules = insertions(model), [module for _, module in inserted(model)]
        numbers = _macs_of(model, modules, self.planner.example(self.runs[name], count=1))
        return [
            Place(entry["site"]["channels"], tuple(entry["site"]["shape"]), parameters(module), macs_there)
            for entry, module, macs_there in zip(entries, modules, numbers, strict=True)
        ]

    def _layers_as_slow(self, name: str) -> tuple[Layer, ...]:
        """By bisection: the share of hidden channels whose layers make the network as slow as the variant."""
        places, slower = self._places(name), self._slower(name)
        finest = 1 / max(place.channels for place in places) / len(places)

        def layers(level: int) -> tuple[Layer, ...]:
            return layers_of_share(places, finest * level)

        def enough(level: int) -> float:
            control = Control(form="conv", layers=layers(level))
            return slower(self.planner.run(self.runs[name].variant, control=control))

        best = _nearest(enough, int(MOST_SHARE / finest))
        if best is None:
            raise NoControl(f"even layers {MOST_SHARE:g} times as wide as their maps are faster")
        return layers(best)

    def _wider(self, name: str) -> Chosen:
        """Inner widths, each by its own number of channels, where the network has any; else one factor for all."""
        if self.study.control != "latency" and (widths := self.inner()):
            more = channels_more([(w.channels, (w.parameters, w.macs)[self.axis]) for w in widths], self._added(name))
            control = Control(form="wider", widths=extra_layers(widths, more))
            if control.widths:
                return Chosen("wider", (name,), Variant(), control=control)
        return Chosen("wider", (name,), Variant(), width=self._width(name))

    def _inner_widths(self) -> list[InnerWidth]:
        """Of the plain network; only those that bring what they are to bring where they are one channel wider."""
        run = self.runs[self.plain]
        plain, example = self.planner.build(run), self.planner.example(run, count=1)
        origin = origin_of(plain)
        assert origin is not None
        try:
            widths = inner_widths(lambda: build_larger(origin), example)
        except Exception:  # a network of a person's own may raise anything; its widths are not known
            return []

        def bring(some: list[InnerWidth]) -> bool:
            more = [1] * len(some)
            wider = self.planner.run(Variant(), control=Control(form="wider", widths=extra_layers(some, more)))
            try:
                model = self.planner.build(wider)
                macs(model.eval(), example)
            except Exception:  # the constructor or the forward pass has that width written elsewhere, too
                return False
            return grew_by(plain, model, some, more)

        return widths if not widths or bring(widths) else [width for width in widths if bring([width])]

    def _width(self, name: str) -> float:
        if self.study.control == "latency":
            slower = self._slower(name)

            def over(width: float) -> float:
                return slower(self.planner.run(Variant(), width))
        else:
            wanted = self.sizes[self.plain][self.axis] + self._added(name) * (1 + self.axis)

            def over(width: float) -> float:
                return self.size(width)[self.axis] / wanted - 1

        over = cache(over)
        try:
            width = widen_until(lambda width: over(width) >= 0, step=STEP)
            if width is None:
                raise NoControl("even four times the width costs less")
            narrower = width - STEP
            return width if narrower <= 1 or abs(over(width)) <= abs(over(narrower)) else narrower
        except NoControl:
            raise
        except Exception as error:  # a constructor or a forward pass refuses these widths in its own way
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise NoControl(f"{self.study.network} cannot be widened layer by layer ({reason})") from error

    def _chain(self, name: str) -> str:
        """The chain whose block adds nearest to what the variant adds."""
        # by latency: the nearest in multiply-adds, which is measured in the end
        axis = 1 if self.study.control == "latency" else self.axis
        added = self.sizes[name][axis] - self.sizes[self.plain][axis]
        chains = chains_of_blocks(self.planner.build(self.runs[self.plain]), self.planner.example(self.runs[name]))
        more = {chain: self.size(1.0, chain)[axis] - self.sizes[self.plain][axis] for chain in chains}
        if not more:
            raise NoControl("the network has no chain of blocks that could have one more")
        return min(more, key=lambda chain: abs(more[chain] - added))

    def _epochs(self, name: str) -> int:
        """Epochs of the plain network in the time of the variant's, by the measured times of their training steps."""
        models = {key: self._on_device(self.runs[key]) for key in (self.plain, name)}
        x = self._batch(self.runs[name])
        found = costs(models, x, repeats=40, budget_s=BUDGET_S, training=True, memory=False)[name]
        if found.train_step_ratio is None:
            raise NoControl("its training step was not measured")
        epochs = self.study.train.epochs
        longer = round(epochs * found.train_step_ratio.median)
        if longer <= epochs:
            ratio = f"{found.train_step_ratio.median:.2f}"
            raise NoControl(f"its training step takes {ratio} times the plain network's, which adds no whole epoch")
        return longer

    def _slower(self, name: str) -> Callable[[Run], float]:
        """A function: by which share of what the variant adds a run's network is slower than it, measured in turns."""
        variant, plain = (self._on_device(self.runs[key]) for key in (name, self.plain))
        x = self._batch(self.runs[name])

        def slower(run: Run) -> float:
            models = {"variant": variant, "plain": plain, "control": self._on_device(run)}
            found = costs(models, x, repeats=40, budget_s=BUDGET_S, memory=False)
            control, without = (found[key].latency_ratio for key in ("control", "plain"))
            assert control is not None
            assert without is not None
            if without.median >= 1:
                raise NoControl("its latency is not measurably above the plain network's")
            return (control.median - 1) / (1 - without.median)

        return slower

    def _on_device(self, run: Run) -> nn.Module:
        model: nn.Module = self.planner.build(run, "cpu").eval().to(self.study.train.device)
        return model

    def _batch(self, run: Run) -> Any:
        return self.planner.training_example(run, self.study.train.device, min(32, self.study.train.batch_size))

    def _run(self, chosen: Chosen) -> Run:
        return self.planner.run(chosen.variant, chosen.width, control=chosen.control)


def _nearest(over: Callable[[int], float], most: int) -> int | None:
    """The level from 1 to `most` at which the rising function is nearest to 0; None if it is below 0 at `most`."""
    values = {most: over(most)}
    if values[most] < 0:
        return None
    low, high = 0, most
    while high - low > 1:
        middle = round((max(low, 1) * high) ** 0.5)  # the levels span several orders of magnitude
        middle = min(max(middle, low + 1), high - 1)
        values[middle] = over(middle)
        low, high = (low, middle) if values[middle] >= 0 else (middle, high)
    return min(values, key=lambda level: abs(values[level]))


def _macs_of(model: nn.Module, modules: list[nn.Module], example: Any) -> list[int]:
    """Multiply-adds of each of these modules in a pass over the example."""
    inputs: dict[int, tuple[Any, ...]] = {}
    handles = [
        module.register_forward_pre_hook(lambda module, args: inputs.update({id(module): args})) for module in modules
    ]
    try:
        macs(model, example)
    finally:
        for handle in handles:
            handle.remove()
    return [count(module, inputs[id(module)], kept=False).macs for module in modules]
