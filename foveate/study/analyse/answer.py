"""The study's answer, made from the verdicts and nothing else. Where arms have an equal-cost control, that comes first:
an arm that beats plain and not its control is no "Yes"."""

from dataclasses import replace

from foveate.spec import LEAST_SEEDS
from foveate.study.analyse.attention import stayed_off
from foveate.study.analyse.beside import Judged, about, looks, outcomes, risk, to_do
from foveate.study.analyse.planner import clear_answer, unseen
from foveate.study.analyse.words import CLAIMS, advantage, difference, failures, for_all_claims, listed, suggestive
from foveate.summary import Answer, ArmSummary, Comparison

CONTROL = "a plain network of equal cost"
LONGER = "the plain network trained for the same time"
PLACEBO = "a placebo of equal cost"
PLACEBOS = {"frozen", "shuffled"}
EXPLAINED = {PLACEBO: "what any such module brings", LONGER: "mere training time"}  # by the control that is as good


def answer(judged: Judged, data: str = "") -> Answer:
    """The question, the short answer, its text, and the lines beside it.

    data: name of the data set, for the question.
    """
    setting = judged.setting
    subject = data if len(data) <= 60 else data[:60].rsplit(" ", 1)[0].rstrip(",;:(") + " …"
    question = setting.question or f"Does attention help {setting.network} on {subject or 'these data'}?"
    writer = _Writer(judged)
    short, text = writer.answer()
    parts = [text, *writer.beside()]
    return Answer(question, short, " ".join(filter(None, parts)), about(judged), risk(judged), looks(judged))


class _Writer:
    def __init__(self, judged: Judged) -> None:
        self.all, self.metric, self.planner = judged, judged.metric, judged.planner
        self.plain = judged.setting.reference
        self.variants = [arm for arm in judged.arms if arm.kind == "attention"]
        self.judged = [arm for arm in self.variants if _claims(arm)]
        forms = {arm.form for arm in judged.arms if any(arm.label == one.control for one in self.judged)}
        kinds = {PLACEBO if form in PLACEBOS else LONGER if form == "longer" else CONTROL for form in forms}
        self.control = kinds.pop() if len(kinds) == 1 else "a control of equal cost" if kinds else CONTROL
        self.explained = EXPLAINED.get(self.control, "mere size")

    def answer(self) -> tuple[str, str]:
        if not self.variants:
            return "Undecided", f"This study has no variant to compare with {self.plain}."
        if self.all.pending:
            done = self.all.runs - len(self.all.pending)
            text = f"Unfinished: {done} of {self.all.runs} runs are done; still to do: {to_do(self.all.pending)}."
            return "Undecided", f"{text} There is no verdict before all are."
        if not self.judged:
            return self._without_arms()
        yes = [arm for arm in self.judged if all(found.word == "better" for found in _claims(arm))]
        worse = [arm for arm in self.judged if any(found.word == "worse" for found in _claims(arm))]
        worse.sort(key=lambda arm: -max(abs(one.mean) for one in _claims(arm)))
        if yes:
            return "Yes", self._yes(yes, worse)
        if len(worse) == len(self.judged):
            return "No", " ".join(filter(None, [self._only_plain(), self._worse(worse)]))
        same = [arm for arm in self.judged if arm not in worse and _as_good(arm)]
        if len(worse) + len(same) == len(self.judged):
            parts = [self._only_plain(), self._worse(worse), self._same(same), self._cheapest(same)]
            return ("No" if worse else "Equivalent"), " ".join(filter(None, parts))
        return self._open(worse, same)

    def _yes(self, yes: list[ArmSummary], worse: list[ArmSummary]) -> str:
        yes = sorted(yes, key=lambda arm: -_first(arm).gain)
        best, count = yes[0], len(self.judged)
        controlled = [arm for arm in yes if _control(arm)]
        both = f"{self.control} and {self.plain}" if len(controlled) == len(yes) else self.plain
        both = both if any(_plain(arm) for arm in yes) else self.control
        gain = advantage(_first(best), self.metric)
        if count == 1:
            second = _plain(best) if _control(best) else None
            text = f"{best.label} beats {self.control if _control(best) else self.plain} by {gain}"
            text += f", and {self.plain} by {advantage(second, self.metric)}." if second else "."
        else:
            beats = "beats" if len(yes) == 1 else "beat"
            all_of = "Both" if count == 2 else f"All {count}"
            who = f"{len(yes)} of the {count} variants" if len(yes) < count else f"{all_of} variants"
            to = " over its control" if _control(best) else ""
            text = f"{who} {beats} {both}; the largest gain{to} is {best.label}'s, {gain}"
            wide = for_all_claims(_first(best), self.metric)
            text += f"; as the largest of {count} it lies in {wide}." if wide else "."
        return " ".join(filter(None, [text, self._only_plain(), _price(best), self._worse(worse)]))

    def _only_plain(self) -> str:
        """Arms that beat plain, and what their controls say."""
        parts = []
        for words, told in (
            ({"worse"}, "worse than"),
            ({"equivalent", "identical"}, "no better than"),
            ({"undecided"}, "not distinguishably better than"),
        ):
            arms = [arm for arm in self.judged if _word(_plain(arm)) == "better" and _word(_control(arm)) in words]
            if not arms:
                continue
            arms = sorted(arms, key=lambda arm: -abs(_sure(_control(arm)).mean))
            first, control = arms[0], _sure(_control(arms[0]))
            is_ = "is" if len(arms) == 1 else "are"
            amounts = f"{difference(control, self.metric)}{'' if len(arms) == 1 else f' for {first.label}'}"
            it = "it" if len(arms) == 1 else "they"
            beat = "beats" if len(arms) == 1 else "beat"
            of = "" if len(arms) == 1 else f"{first.label} "
            who = listed([arm.label for arm in arms])
            parts.append(
                f"{who} {is_} {told} {self.control}: {amounts}; {it} {beat} {self.plain}"
                f"{',' if of else ''} {of}by {advantage(_sure(_plain(first)), self.metric)}, "
                f"so the gain may be {self.explained}."
            )
        return " ".join(parts)

    def _worse(self, worse: list[ArmSummary]) -> str:
        told = [arm for arm in worse if _word(_plain(arm)) == "worse" or _word(_control(arm)) == "worse"]
        told = [arm for arm in told if _word(_plain(arm)) != "better"]
        parts = []
        for choose, other in ((_control, self.control), (_plain, self.plain)):
            arms = [arm for arm in told if _word(choose(arm)) == "worse"]
            if choose is _control:
                arms = [arm for arm in arms if _word(_plain(arm)) != "worse"]
            if arms:
                amount = difference(_sure(choose(arms[0])), self.metric)
                most = f": {amount}" if len(arms) == 1 else f", {arms[0].label} most: {amount}"
                is_ = "is" if len(arms) == 1 else "are"
                parts.append(f"{listed([arm.label for arm in arms])} {is_} worse than {other}{most}.")
        return " ".join(parts)

    def _same(self, same: list[ArmSummary]) -> str:
        equal = [arm for arm in same if _word(_plain(arm)) != "better"]
        if not equal:
            return ""
        who = listed([arm.label for arm in equal])
        largest = max(equal, key=lambda arm: abs(_first(arm).mean))
        amount = difference(_first(largest), self.metric)
        if len(equal) > 1:
            amount = f"{largest.label} differs most: {amount}"
        is_ = "is" if len(equal) == 1 else "are"
        return f"{who} {is_} as good as {self.plain} to within {self.all.margin.text}: {amount}."

    def _cheapest(self, same: list[ArmSummary]) -> str:
        cheaper = [arm for arm in same if arm.cost_change.latency and arm.cost_change.latency.high < 1]
        return (
            f"{listed([arm.label for arm in cheaper])} {'is' if len(cheaper) == 1 else 'are'} faster."
            if cheaper
            else ""
        )

    def _open(self, worse: list[ArmSummary], same: list[ArmSummary]) -> tuple[str, str]:
        head = " ".join(filter(None, [self._only_plain(), self._worse(worse)]))
        told = [arm for arm in self.judged if arm not in worse and arm not in same and _word(_plain(arm)) != "better"]
        lost = [arm for arm in told if any(found.failed or found.failed_other for found in _claims(arm))]
        hints = [arm for arm in told if arm not in lost and any(map(suggestive, _claims(arm)))]
        hopeful = [arm for arm in hints if _hint(arm).gain > 0]
        alike = self._same(same)
        unseen_ = self._unseen()
        if lost and not hopeful:
            rest = [arm for arm in told if arm not in lost]
            who = listed([arm.label for arm in rest]) if rest else ""
            none = f"{who} {'does' if len(rest) == 1 else 'do'} not differ detectably." if rest else ""
            return "Undecided", " ".join(filter(None, [head, alike, none]))
        if hopeful:
            first = max(hopeful, key=lambda arm: _hint(arm).gain)
            found = _hint(first)
            other = self.plain if found is _plain(first) else self.control
            amount = difference(found, self.metric)
            if found.significant:
                why = f"but that is less than the {self.all.margin.text} that matters"
            else:
                why = f"but that does not survive the correction for {found.comparisons} comparisons"
            text = f"{first.label} differs from {other} by {amount}, {why}; none{self._of()} is established as better."
            return "Undecided", " ".join(filter(None, [head, text, alike, unseen_]))
        if head:
            return "Not detectably", " ".join(
                filter(None, [head, alike, "No variant is detectably better." if told else ""])
            )
        count = len(self.judged)
        none = f"None of the {count} variants differs" if count > 1 else f"{told[0].label} does not differ"
        if alike:
            none = f"{listed([arm.label for arm in told])} {'does' if len(told) == 1 else 'do'} not differ"
        return "Not detectably", " ".join(filter(None, [alike, f"{none} detectably from {self.plain}.", unseen_]))

    def _of(self) -> str:
        return f" of {len(self.judged)}" if len(self.judged) > 1 else ""

    def _without_arms(self) -> tuple[str, str]:
        """The answer where no arm has a verdict of its own: too few seeds, failures, questions between arms."""
        claimed = [one for one in self.all.primary if one.found and one.found.word in CLAIMS]
        if claimed:
            word = _sure(claimed[0].found).word
            short = {"better": "Yes", "worse": "No", "equivalent": "Equivalent"}.get(word, "Not detectably")
            return short, ""
        if all(arm.verdict.word in {"failed", "no runs"} for arm in self.variants):
            if any(arm.failed for arm in self.all.arms):
                return (
                    "Undecided",
                    f"No seed has finished both on a variant and on {self.plain}: there is nothing to judge.",
                )
            plain = next(arm for arm in self.all.arms if arm.kind == "plain")
            ran = [arm.label for arm in self.variants if arm.score]
            if plain.score and ran:
                text = f"Differences are paired by seed, and {listed(ran)} and {self.plain} have no seed in common."
                return "Too few seeds", text
            return "Too few seeds", f"No seed has finished both on a variant and on {self.plain}."
        few = [arm for arm in self.variants if arm.against_plain and arm.against_plain.word == "too few seeds"]
        if not few:
            return "Undecided", "Nothing that this study asks has a finished pair of runs."
        largest = max(few, key=lambda arm: abs(_sure(arm.against_plain).mean))
        found = _sure(largest.against_plain)
        lead = (
            "One seed shows nothing about seeds. In it"
            if found.runs == 1
            else (f"A verdict takes {LEAST_SEEDS} seeds; there are {found.runs}. In them")
        )
        amount = difference(found, self.metric) if found.runs == 1 else difference(_bare(found), self.metric)
        again = "a new seed" if found.runs == 1 else "new seeds"
        return (
            "Too few seeds",
            f"{lead} {largest.label} differs from {self.plain} by {amount}, which {again} may turn round.",
        )

    def _unseen(self) -> str:
        if self.planner.smallest_high is None:
            return ""
        text = unseen(self.planner.seeds, self.planner.smallest_high, self.metric)
        return f"{text[0].upper()}{text[1:]}. {clear_answer(self.planner, self.metric, self.all.margin.value)}".strip()

    def beside(self) -> list[str]:
        """Sentences that stand in every answer: primary questions, failed and missing runs, what was dropped."""
        told = [
            f"{one.text[0].upper()}{one.text[1:]}."
            for one in self.all.primary
            if one.claim.against not in {"plain", "control"} or one.claim.metric
        ]
        for arm in self.all.arms:
            if arm.failed:
                count = len(outcomes(arm))
                name = arm.label if arm.kind != "plain" else f"{self.plain[0].upper()}{self.plain[1:]}"
                told.append(f"{name} {failures(len(arm.failed), count, self.all.verbs.get(arm.label, 'failed'))}.")
        if self.all.pending:
            return told
        told += [stayed_off(arm.label, arm.attention, self.plain) for arm in self.variants if arm.attention]
        for arm in self.variants:
            found = arm.against_plain
            if found and found.missing:
                seeds = ", ".join(map(str, found.missing))
                many = "seeds" if len(found.missing) > 1 else "seed"
                told.append(f"The pair of {arm.label} and {self.plain} lacks {many} {seeds}.")
        if self.judged:
            absent = [arm.label for arm in self.variants if arm.verdict.word == "no runs"]
            told += [f"{listed(absent)} cannot be judged: no finished run."] if absent else []
        if self.all.dropped:
            told.append(
                f"Planned once and dropped since: {listed(list(self.all.dropped))}; the correction still counts "
                f"{'it' if len(self.all.dropped) == 1 else 'them'}."
            )
        return told


def _claims(arm: ArmSummary) -> list[Comparison]:
    """The arm's claims that have a verdict, that against the control first."""
    return [found for found in (arm.against_control, arm.against_plain) if found and found.word in CLAIMS]


def _plain(arm: ArmSummary) -> Comparison | None:
    return arm.against_plain if arm.against_plain in _claims(arm) else None


def _control(arm: ArmSummary) -> Comparison | None:
    return arm.against_control if arm.against_control in _claims(arm) else None


def _first(arm: ArmSummary) -> Comparison:
    return _claims(arm)[0]


def _hint(arm: ArmSummary) -> Comparison:
    return next(found for found in reversed(_claims(arm)) if suggestive(found))


def _word(found: Comparison | None) -> str:
    return found.word if found else ""


def _as_good(arm: ArmSummary) -> bool:
    """Is the arm equivalent to plain, or better than it and equivalent to its control?"""
    plain, control = _word(_plain(arm)), _word(_control(arm))
    if plain == "better":
        return control in {"equivalent", "identical"}
    return "equivalent" in {plain, control} and plain in {"equivalent", "identical", ""}


def _sure(found: Comparison | None) -> Comparison:
    assert found is not None, "only arms with a comparison are told"
    return found


def _bare(found: Comparison) -> Comparison:
    """The comparison without its interval, which two seeds do not support."""
    return replace(found, low=None, high=None)


def _price(arm: ArmSummary) -> str:
    change = arm.cost_change
    parts = []
    if change.macs_percent is not None:
        parts.append(f"{_percent(change.macs_percent)} multiply-adds")
    if change.latency:
        apart = "" if change.latency.distinguishable else " (not distinguishable from plain)"
        parts.append(f"{change.latency.ratio:.2f} times the latency{apart}")
    return f"{arm.label} costs {' and '.join(parts)}." if parts else ""


def _percent(value: float) -> str:
    if value and abs(value) < 0.05:
        return f"less than 0.1 % {'more' if value > 0 else 'fewer'}"
    return f"{value:+.1f} %".replace("-", "−")
