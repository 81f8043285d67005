"""The study's answer in one or two sentences, made from the verdicts and nothing else."""

from typing import Any

from foveate.study.analyse.words import difference, size_in_points

Row = dict[str, Any]


def answer(summary: Row) -> dict[str, str]:
    """`question`, `short` ("Yes", "Not detectably", …) and `text`."""
    about = summary["about"]
    data = str(about.get("name") or about.get("data") or "these data")
    subject = data if len(data) <= 60 else data[:60].rsplit(" ", 1)[0].rstrip(",;:(") + " …"
    question = f"Does attention help {summary['study']['network']} on {subject}?"
    short, text = _answer(summary)
    return {"question": question, "short": short, "text": f"{text} {_unfinished(summary)}".strip()}


def _answer(summary: Row) -> tuple[str, str]:
    variants = [arm for arm in summary["arms"] if arm["kind"] == "attention"]
    judged = [arm for arm in variants if arm["verdict"]["word"] not in {"no runs", "one seed"}]
    if not variants:
        return "Nothing was asked", "This study has no attention variant to compare with the plain network."
    if not judged:
        return _unjudged([arm for arm in variants if arm["verdict"]["word"] == "one seed"])
    by_word = {word: [a for a in judged if a["verdict"]["word"] == word] for word in ("better", "worse", "suggestive")}
    for found in by_word.values():
        found.sort(key=lambda arm: -abs(arm["against_plain"]["mean"]))
    better, worse, suggestive = by_word.values()
    of_all = f"of the {len(judged)} variants" if len(judged) > 1 else ""
    if better:
        best = better[0]
        if len(judged) == 1:
            text = f"{best['label']} beats the plain network by {_amount(best)}."
        else:
            beats = "beats" if len(better) == 1 else "beat"
            largest = f"the largest gain is {best['label']}'s, {_amount(best)}"
            who = f"{len(better)} {of_all}" if len(better) < len(judged) else f"{_all(len(judged))} variants"
            text = f"{who} {beats} the plain network; {largest}."
        return "Yes", " ".join(filter(None, [text, _next_to_control(better), _price(best), _worse(worse)]))
    if worse:
        short = "No" if len(worse) == len(judged) else "No gain seen"
        rest = len(judged) - len(worse)
        text = f"{_worse(worse)} {'No other variant is detectably better.' if rest else ''}".strip()
        return short, text
    if suggestive:
        first = suggestive[0]
        others = f" of {len(judged)}" if len(judged) > 1 else ""
        return (
            "Not settled",
            f"{first['label']} differs from the plain network by {_amount(first)}, but that does not survive the "
            f"correction for {first['against_plain']['comparisons']} comparisons; none{others} is established. "
            f"{_unseen(summary)}".strip(),
        )
    none = f"none {of_all} differs" if of_all else f"{judged[0]['label']} does not differ"
    return (
        "Not detectably",
        f"{none[0].upper() + none[1:]} detectably from the plain network. {_unseen(summary)}".strip(),
    )


def _unjudged(one_seed: list[Row]) -> tuple[str, str]:
    if not one_seed:
        return "Not known yet", "No seed has finished both on a variant and on the plain network."
    largest = max(one_seed, key=lambda arm: abs(arm["against_plain"]["mean"]))
    return (
        "One seed cannot say",
        f"One seed shows nothing about seeds. In it {largest['label']} differs from the plain network by "
        f"{_amount(largest)}, which a new seed may turn round.",
    )


def _amount(arm: Row) -> str:
    return difference(arm["against_plain"])


def _next_to_control(better: list[Row]) -> str:
    matched = [arm for arm in better if arm["against_control"] and len(arm["against_control"]["seeds"]) > 1]
    if not matched:
        return ""
    above = [arm["label"] for arm in matched if _beats(arm["against_control"])]
    if not above:
        which = "It is not" if len(better) == 1 else "None of these is"
        return f"{which} distinguishably better than a plain network of equal cost, so the gain may be mere size."
    if len(above) == len(better):
        which = "It also beats" if len(better) == 1 else f"{_all(len(better))} also beat"
        return f"{which} a plain network of equal cost."
    return f"Of these {_listed(above)} also {'beats' if len(above) == 1 else 'beat'} a plain network of equal cost."


def _beats(found: Row) -> bool:
    return found["mean"] > 0 and found["p_holm"] is not None and found["p_holm"] < 0.05


def _price(arm: Row) -> str:
    change = arm["cost_change"]
    parts = []
    if change["macs_percent"] is not None:
        parts.append(f"{_percent(change['macs_percent'])} multiply-adds")
    if change["latency"]:
        apart = "" if change["latency"]["told_apart"] else " (not told apart from plain)"
        parts.append(f"{change['latency']['ratio']:.2f} times the latency{apart}")
    return f"{arm['label']} costs {' and '.join(parts)}." if parts else ""


def _all(count: int) -> str:
    return "Both" if count == 2 else f"All {count}"


def _percent(value: float) -> str:
    if value and abs(value) < 0.05:
        return f"less than 0.1 % {'more' if value > 0 else 'fewer'}"
    return f"{value:+.1f} %".replace("-", "−")


def _worse(worse: list[Row]) -> str:
    if not worse:
        return ""
    labels = _listed([arm["label"] for arm in worse])
    most = f": {_amount(worse[0])}" if len(worse) == 1 else f", {worse[0]['label']} most: {_amount(worse[0])}"
    return f"{labels} {'is' if len(worse) == 1 else 'are'} worse than the plain network{most}."


def _unseen(summary: Row) -> str:
    planner = summary["seeds_can_show"]
    if planner["smallest_points"] is None:
        return ""
    size = planner["smallest_points"]
    return f"With {planner['seeds']} seeds, differences under about {size_in_points(size)} usually go unseen."


def _unfinished(summary: Row) -> str:
    words = {arm["label"]: arm["verdict"]["word"] for arm in summary["arms"] if arm["kind"] == "attention"}
    absent = [label for label, word in words.items() if word == "no runs"]
    return f"{_listed(absent)} cannot be judged: no finished run." if absent and len(absent) < len(words) else ""


def _listed(labels: list[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
