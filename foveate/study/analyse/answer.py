"""The study's answer in one or two sentences, made from the verdicts and nothing else."""

from foveate.spec import Metric
from foveate.study.analyse.planner import unseen
from foveate.study.analyse.words import advantage, difference, listed
from foveate.summary import Answer, ArmSummary, Comparison, SeedsCanShow, Setting

UNJUDGED = {"no runs", "one seed"}


def answer(
    setting: Setting, metric: Metric, arms: tuple[ArmSummary, ...], planner: SeedsCanShow, data: str = ""
) -> Answer:
    """The question, the short answer ("Yes", "No", "Not detectably", "Undecided", "Too few seeds") and its text.

    data: name of the data set, for the question.
    """
    subject = data if len(data) <= 60 else data[:60].rsplit(" ", 1)[0].rstrip(",;:(") + " …"
    question = setting.question or f"Does attention help {setting.network} on {subject or 'these data'}?"
    writer = _Writer(setting, metric, arms, planner)
    short, text = writer.answer()
    return Answer(question, short, f"{text} {writer.unfinished()}".strip())


class _Writer:
    def __init__(self, setting: Setting, metric: Metric, arms: tuple[ArmSummary, ...], planner: SeedsCanShow) -> None:
        self.metric, self.planner, self.plain = metric, planner, setting.reference
        self.variants = [arm for arm in arms if arm.kind == "attention"]
        self.judged = [arm for arm in self.variants if arm.verdict.word not in UNJUDGED]

    def answer(self) -> tuple[str, str]:
        judged, count = self.judged, len(self.judged)
        if not self.variants:
            return "Undecided", f"This study has no variant to compare with {self.plain}."
        if not judged:
            return "Too few seeds", self._unjudged()
        better, worse, suggestive = (self._found(word) for word in ("better", "worse", "suggestive"))
        if better:
            parts = [self._gain(better), self._next_to_control(better), _price(better[0]), self._worse(worse)]
            return "Yes", " ".join(filter(None, parts))
        if worse and count == len(worse):
            return "No", self._worse(worse)
        hopeful = [arm for arm in suggestive if _plain(arm).gain > 0]
        if worse and not hopeful:
            return "Not detectably", f"{self._worse(worse)} No other variant is detectably better."
        if suggestive:
            first = (hopeful or suggestive)[0]
            others = f" of {count}" if count > 1 else ""
            return "Undecided", " ".join(
                filter(
                    None,
                    [
                        self._worse(worse),
                        f"{first.label} differs from {self.plain} by {self._difference(first)}, but that does not "
                        f"survive the correction for {_plain(first).comparisons} comparisons; none{others} is "
                        f"established{' as better' if worse else ''}.",
                        self._unseen(),
                    ],
                )
            )
        none = f"None of the {count} variants differs" if count > 1 else f"{judged[0].label} does not differ"
        text = f"{none} detectably from {self.plain}. {self._unseen()}"
        return "Not detectably", text.strip()

    def _found(self, word: str) -> list[ArmSummary]:
        found = [arm for arm in self.judged if arm.verdict.word == word]
        return sorted(found, key=lambda arm: -abs(_plain(arm).mean))

    def _difference(self, arm: ArmSummary) -> str:
        return difference(_plain(arm), self.metric)

    def _unjudged(self) -> str:
        one_seed = [arm for arm in self.variants if arm.verdict.word == "one seed"]
        if not one_seed:
            return f"No seed has finished both on a variant and on {self.plain}."
        largest = max(one_seed, key=lambda arm: abs(_plain(arm).mean))
        return (
            f"One seed shows nothing about seeds. In it {largest.label} differs from {self.plain} by "
            f"{self._difference(largest)}, which a new seed may turn round."
        )

    def _gain(self, better: list[ArmSummary]) -> str:
        best, count = better[0], len(self.judged)
        amount = advantage(_plain(best), self.metric)
        if count == 1:
            return f"{best.label} beats {self.plain} by {amount}."
        beats = "beats" if len(better) == 1 else "beat"
        all_of = "Both" if count == 2 else f"All {count}"
        who = f"{len(better)} of the {count} variants" if len(better) < count else f"{all_of} variants"
        return f"{who} {beats} {self.plain}; the largest gain is {best.label}'s, {amount}."

    def _next_to_control(self, better: list[ArmSummary]) -> str:
        matched = [arm for arm in better if arm.against_control and len(arm.against_control.seeds) > 1]
        if not matched:
            return ""
        above = [arm.label for arm in matched if arm.against_control and _beats(arm.against_control)]
        if not above:
            which = "It is not" if len(better) == 1 else "None of these is"
            return f"{which} distinguishably better than a plain network of equal cost, so the gain may be mere size."
        if len(above) == len(better):
            all_of = "Both" if len(better) == 2 else f"All {len(better)}"
            which = "It also beats" if len(better) == 1 else f"{all_of} also beat"
            return f"{which} a plain network of equal cost."
        return f"Of these {listed(above)} also {'beats' if len(above) == 1 else 'beat'} a plain network of equal cost."

    def _worse(self, worse: list[ArmSummary]) -> str:
        if not worse:
            return ""
        labels = listed([arm.label for arm in worse])
        amount = self._difference(worse[0])
        most = f": {amount}" if len(worse) == 1 else f", {worse[0].label} most: {amount}"
        return f"{labels} {'is' if len(worse) == 1 else 'are'} worse than {self.plain}{most}."

    def _unseen(self) -> str:
        if self.planner.smallest is None:
            return ""
        text = unseen(self.planner.seeds, self.planner.smallest, self.metric)
        return f"{text[0].upper()}{text[1:]}."

    def unfinished(self) -> str:
        """A sentence about the variants that have no finished run, where others have one."""
        absent = [arm.label for arm in self.variants if arm.verdict.word == "no runs"]
        some = absent and len(absent) < len(self.variants)
        return f"{listed(absent)} cannot be judged: no finished run." if some else ""


def _plain(arm: ArmSummary) -> Comparison:
    assert arm.against_plain is not None, "only arms with a comparison are judged"
    return arm.against_plain


def _beats(found: Comparison) -> bool:
    return found.gain > 0 and found.significant


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
