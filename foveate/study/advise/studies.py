"""A search's work as studies: a rung is a study in a folder of its own, and so is the confirmation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.data import open_data
from foveate.insertion import sites
from foveate.spec import Study
from foveate.study.advise.search import Latencies, Scores
from foveate.study.advise.space import Choice, Space, places_of
from foveate.study.analyse.words import listed
from foveate.study.checks import check_names
from foveate.study.local import run_alone
from foveate.study.measured_costs import costs_job
from foveate.study.plan import VALIDATION, Planner, opened_data
from foveate.study.run import study_metrics
from foveate.summary import Summary, Times
from foveate.tasks import create_task
from foveate.variant import PLAIN, At, Variant

CONFIRMATION, LATENCIES = "confirmation", "latencies"  # folders beside rung-1, rung-2, …


class Studies:
    """A `Work`.

    Args:
        study: network, data, task and training; its variants and seeds are the search's.
        out: folder of the search.
        run: carries out a study in a folder.
        null_check: are the variants copies of the plain network, with seeds of their own?

    Raises: ValueError: what the study names is not there, the data have no validation part and none can be taken from
        their training part, or the study asks for what a search decides.
    """

    def __init__(
        self, study: Study, out: Path, run: Callable[[Study, Path], Summary], *, null_check: bool = False
    ) -> None:
        _refuse_the_searchs_own(study)
        study = check_names(study.model_copy(update={"variants": (Variant(),), "control": "none", "controls": ()}))
        fraction = study.data.validation_fraction or VALIDATION
        divided = study.data.model_copy(update={"tested_on": "validation", "validation_fraction": fraction})
        self.searching = study.model_copy(update={"data": divided})
        self.confirming = study.model_copy(update={"data": study.data.model_copy(update={"validation_fraction": None})})
        self.out, self.carry_out, self.null_check, self.network = out, run, null_check, study.network
        self.data = open_data(opened_data(self.searching, 0))
        task = create_task(study.task, self.data, **study.task_options)
        self.metric = study_metrics(study, task)[0]
        self.planner = Planner(self.searching, self.data, task)
        self.planner.check(PLAIN, self.planner.run(Variant()))

    def places(self) -> dict[str, At]:
        """Where this network can carry attention, in words.

        Raises: ValueError: it has neither blocks nor stages.
        """
        run = self.planner.run(Variant())
        found = places_of(sites(self.planner.build(run).eval(), self.planner.example(run)))
        if not found:
            raise ValueError(
                f"advise: {self.network} has neither blocks nor stages; name module patterns with --at, of those that "
                f"foveate sites {self.network} lists"
            )
        return found

    def check_places(self, space: Space) -> None:
        """Raises: ValueError: a place is not in this network (the nearest are named), or no mechanism fits it."""
        for place in space.places:
            reasons: list[str] = []
            for name in space.mechanisms:
                reason = self._reason_against(space.variant(Choice(name, 0, place, space.starts[0])))
                if reason is None:
                    break
                reasons.append(reason)
            else:
                raise ValueError(f"--at: {reasons[0]}")

    def _reason_against(self, variant: Variant) -> str | None:
        """Why the variant cannot be built; None: it can."""
        try:
            self.planner.check(variant.name, self.planner.run(variant))
        except ValueError as error:
            return str(error).removeprefix(f"variant {variant.name!r}: ")
        return None

    def latencies(self, variants: Sequence[Variant]) -> Mapping[str, Latencies | str]:
        found: dict[str, Latencies | str] = {}
        runs = {PLAIN: self.planner.run(Variant())}
        for variant in variants:
            if (reason := self._reason_against(variant)) is not None:
                found[variant.name] = reason
            else:
                runs[variant.name] = self.planner.run(variant)
        (self.out / LATENCIES).mkdir(parents=True, exist_ok=True)
        job = costs_job(runs, self.searching.train)
        measured = run_alone(self.out / LATENCIES, job, "the latencies could not be measured")
        for label, cost in measured["costs"].items():
            found[label] = (
                Times(**cost.get("latency_ratio", {"median": 1.0, "low": 1.0, "high": 1.0})),
                Times(**cost["latency_ms"]),
            )
        return found

    def rung(self, number: int, variants: Sequence[Variant], seeds: tuple[int, ...]) -> Scores:
        summary = self._summary(self.searching, f"rung {number}", self.out / f"rung-{number}", variants, seeds)
        found = {arm.label: dict(arm.score.of_seeds()) for arm in summary.arms if arm.score}
        if not found.get(PLAIN):
            failed = listed([f"seed {one.seed}: {one.error}" for one in summary.failed if one.label == PLAIN][:2])
            raise RuntimeError(f"no training of the plain network ends with a score ({failed})")
        return self._relabelled(found, variants)

    def confirm(self, variants: Sequence[Variant], seeds: tuple[int, ...]) -> Summary:
        return self._summary(self.confirming, CONFIRMATION, self.out / CONFIRMATION, variants, seeds)

    def _summary(
        self, study: Study, name: str, folder: Path, variants: Sequence[Variant], seeds: tuple[int, ...]
    ) -> Summary:
        changes: dict[str, Any] = {"name": f"{study.name}, {name}", "seeds": seeds}
        if self.null_check:
            changes["null_check"] = len(variants) + 1
        else:
            changes["variants"] = (Variant(), *variants)
        summary = self.carry_out(study.model_copy(update=changes), folder)
        if summary.pending:
            left = f"{len(summary.pending)} runs to do"
            raise RuntimeError(f"{folder} is paused with {left}; once it is resumed, the same command goes on")
        return summary

    def _relabelled(self, found: dict[str, dict[int, float]], variants: Sequence[Variant]) -> Scores:
        """By the variants' labels; a study of copies numbers its own."""
        if not self.null_check:
            return found
        own = {variant.name: found.get(f"copy {number}", {}) for number, variant in enumerate(variants, 1)}
        return {PLAIN: found[PLAIN], **own}


def _refuse_the_searchs_own(study: Study) -> None:
    """Raises: ValueError: the study lists values, stops early, or divides its data anew with each seed."""
    reasons = {
        "a list of values": bool(study.train.listed),
        "fast": study.fast,
        "early_stop": bool(study.train.early_stop),
        "resplit": study.resplit,
        "until": study.until is not None,
        "null_check": study.null_check is not None,
        "a trainer": study.trainer is not None,
        'tested_on = "validation"': study.data.tested_on != "test",
    }
    for name, given in reasons.items():
        if given:
            raise ValueError(
                f"advise: wanted a study without {name}: candidates are chosen on the validation part and confirmed on "
                "the test part, all trained alike by the library; got one with it"
            )
