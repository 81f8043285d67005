"""Are the verdicts as often right as they say? Simulated studies, judged by the formulas that judge real ones.

    python benchmarks/calibration.py [--quick] [--only NAME] [--out results/calibration_verdicts]
    python benchmarks/calibration.py --real STUDY_FOLDER    # A/A studies resampled from a study's own runs

Each row is a rate with its exact 95 % interval. A false claim is a word (better, worse, equivalent) that is not true of
new seeds and new items. `analyse` itself judges the rows marked "engine".
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from calibration_rows import Row, markdown, row
from calibration_runs import __doc__ as EXPLAINED
from calibration_runs import real
from numpy.typing import NDArray

from foveate.files import write_json, write_whole
from foveate.machine import versions
from foveate.spec import Metric
from foveate.study.analyse import analyse, inference
from foveate.study.analyse.inference import BETTER, EQUIVALENT, FIRST_LOOK, TOO_FEW, WORSE
from foveate.study.analyse.items import item_part
from foveate.summary import ALPHA, Arm, Score, Setting

Array = NDArray[Any]
LADDER, EVERY = (3, 5, 8, 10, 15, 20), tuple(range(3, 21))
RATE = Metric("accuracy")


# -- studies ----------------------------------------------------------------------------------------------------------


def seed_scores(draw: np.random.Generator, shape: tuple[int, ...], kind: str) -> Array:
    """Scores of runs with sd 1, apart from what a seed shares between arms, which pairing takes out."""
    if kind == "heavy":
        return draw.standard_t(3, shape) / math.sqrt(3)
    if kind == "skewed":
        return 1 - draw.exponential(1.0, shape)
    return draw.normal(size=shape)


def judge(
    differences: Array, margin: float = 0.0, weight: Array | float = FIRST_LOOK, dropped: int = 0, **more: Any
) -> inference.Decision:
    """(..., K, n) differences → the decision on each family of K."""
    found = inference.evidence(differences, **more)
    same = inference.equivalence_p(found, margin)
    p = inference.p_value(found)
    return inference.decide(found.mean, p, same, margin, seeds=found.seeds, weight=weight, dropped=dropped)


def claims(words: Array) -> Array:
    return (words == BETTER) | (words == WORSE)


def null_differences(draw: np.random.Generator, studies: int, variants: int, seeds: int, kind: str) -> Array:
    plain = seed_scores(draw, (studies, 1, seeds), kind)
    return seed_scores(draw, (studies, variants, seeds), kind) - plain


def item_scores(
    draw: np.random.Generator, studies: int, arms: int, seeds: int, items: int, easy: float = 1.5, gain: float = 0.0
) -> Array:
    """Right or wrong, (studies, arms, seeds, items): items differ in difficulty, for each arm somewhat anew, so that
    arms equal over all items differ on a given test set."""
    logits = easy + draw.normal(0, 1.5, (studies, 1, 1, items)) + draw.normal(0, 0.6, (studies, arms, 1, items))
    logits = logits + draw.normal(0, 0.15, (studies, arms, seeds, 1))
    logits[:, 1:] += gain
    return (draw.random((studies, arms, seeds, items)) < 1 / (1 + np.exp(-logits))).astype(np.float32)


# -- the rows of the table --------------------------------------------------------------------------------------------


def one_look(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    for kind in ("normal", "heavy", "skewed"):
        for seeds in (3, 5, 8, 20):
            for variants in (1, 4, 12):
                words = judge(null_differences(draw, studies, variants, seeds, kind)).words
                case = f"{kind} scores, {seeds} seeds, {variants} variants"
                yield row("one look: some false claim", case, claims(words).any(-1), "≤ 5 %")


def one_family(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    for seeds in (3, 5, 10):
        for variants in (1, 4, 12):
            scores = draw.normal(size=(studies, 1 + 2 * variants, seeds))
            to_plain = scores[:, 1 : 1 + variants] - scores[:, :1]
            to_control = scores[:, 1 : 1 + variants] - scores[:, 1 + variants :]
            words = judge(np.concatenate([to_plain, to_control], 1)).words
            case = f"{variants} variants, each with a control, {seeds} seeds"
            yield row("one family: some false claim in the page", case, claims(words).any(-1), "≤ 5 %")


def looks(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    for name, plan in (("3, 5, 8, 10, 15, 20 seeds", LADDER), ("every seed from 3 to 20", EVERY)):
        for variants in (1, 12):
            data = null_differences(draw, studies, variants, 20, "normal")
            for rule, most in (("not declared", None), ("at most 20 declared", 20), ("no rule", 0)):
                some = np.zeros(studies, bool)
                for number, seeds in enumerate(plan):
                    weight = inference.look_weight(plan[: number + 1], most) if most != 0 else 1.0
                    some |= claims(judge(data[..., :seeds], weight=weight).words).any(-1)
                case = f"{name}, {variants} variants, {rule}"
                yield row("looking and extending: some false claim", case, some, "" if most == 0 else "≤ 5 %")


def dropping(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    for seeds in (3, 5, 10):
        data = null_differences(draw, studies, 12, seeds, "normal")
        found = inference.evidence(data)
        best = (np.abs(found.mean) / np.sqrt(found.seed_variance)).argmax(1)
        kept = np.take_along_axis(data, best[:, None, None], 1)
        for rule, dropped in (("the ledger remembers 11", 11), ("no ledger", 0)):
            some, case = (
                claims(judge(kept, dropped=dropped).words).any(-1),
                f"the best of 12 kept, {seeds} seeds, {rule}",
            )
            yield row("dropping arms after looking: false claim", case, some, "≤ 5 %" if dropped else "")


def items(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    for count, easy in ((50, 1.5), (200, 1.5), (200, 4.0), (10_000, 1.5)):
        for seeds in (3, 5, 8, 20):
            total = studies // 2 if count <= 200 else max(100, studies // 3)
            step = max(1, 8_000_000 // (2 * seeds * count))
            both, alone, inside = [], [], []
            for start in range(0, total, step):
                scores = item_scores(draw, min(step, total - start), 2, seeds, count, easy)
                each = (scores[:, 1] - scores[:, 0]).astype(float)
                found = inference.evidence(each.mean(-1), inference.item_variance(each), count)
                both.append(inference.p_value(found) < ALPHA)
                alone.append(inference.p_value(found.seeds_only()) < ALPHA)
                half = np.nan_to_num(inference.half_width(found, ALPHA))
                inside.append(np.abs(found.mean) <= half)
            case = f"{count:,} items{', 97 % right' if easy > 2 else ''}, {seeds} seeds"
            yield row("new items and seeds: false claim at 0.05", case, np.concatenate(both), "≤ 5 %")
            yield row("the same by seeds alone", case, np.concatenate(alone), "")
            yield row("new items and seeds: the interval covers", case, np.concatenate(inside), "93 to 97 %")


def grouped_items(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    groups = np.repeat(np.arange(30), 10)
    for seeds in (3, 5, 8):
        shape = (studies // 2, seeds, 300)
        each = draw.normal(0, 1, shape) + draw.normal(0, 0.3, (studies // 2, seeds, 1))
        each = each + draw.normal(0, 0.7, (studies // 2, 1, 30))[..., groups]
        for name, codes, count in (("whole groups", groups, 30), ("items", None, 300)):
            found = inference.evidence(each.mean(-1), inference.item_variance(each, codes), count)
            case, wanted = (
                f"300 items of 30 subjects, {seeds} seeds, resampling {name}",
                "" if codes is None else "≤ 5 %",
            )
            yield row("groups of items: false claim at 0.05", case, inference.p_value(found) < ALPHA, wanted)


def divisions(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    """Each seed divides 250 items anew and trains two nearest-mean classifiers, each on four features of its own: equal
    over all such data sets, not on one."""
    total, count, classes = max(100, studies), 250, 2
    for seeds in (3, 5, 10, 20):
        for share in (0.1, 0.2, 0.5):
            wrong, without = np.zeros(total, bool), np.zeros(total, bool)
            tested = round(share * count)
            overlap = tested / (count - tested)
            for study in range(total):
                labels = draw.integers(0, classes, count)
                features = draw.normal(size=(2, count, 4)) + 0.5 * labels[None, :, None]
                order = np.argsort(draw.random((seeds, count)), 1)
                train = np.zeros((seeds, count), bool)
                np.put_along_axis(train, order[:, tested:], True, 1)
                score = np.zeros((2, seeds))
                for arm, x in enumerate(features):
                    means = [(train * (labels == k)) @ x / (train * (labels == k)).sum(1)[:, None] for k in (0, 1)]
                    away = [((x[None] - mean[:, None]) ** 2).sum(-1) for mean in means]
                    right = (away[1] < away[0]) == labels
                    score[arm] = (right & ~train).sum(1) / tested
                found = inference.evidence(score[1] - score[0], overlap=overlap, scale=1.0)
                wrong[study] = inference.p_value(found) < ALPHA
                without[study] = inference.p_value(found.seeds_only()) < ALPHA
            case = f"{count} items, {100 * share:.0f} % for testing, {seeds} seeds"
            yield row("each seed its own division: false claim at 0.05", case, wrong, "≤ 5 %")
            yield row("the same without the correction for overlap", case, without, "")


def set_level(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    total, count, classes = max(100, studies // 2), 100, 4
    names = [str(number) for number in range(count)]
    for seeds in (3, 5, 8):
        wrong = np.zeros(total, bool)
        for study in range(total):
            area = draw.gamma(1.5, 40, (1, 1, count, classes))
            skill = draw.normal(0, 0.15, (2, seeds, 1, 1)) + draw.normal(0, 0.5, (2, 1, count, classes))
            share = 1 / (1 + np.exp(-(1 + skill + draw.normal(0, 0.4, (2, seeds, count, classes)))))
            both, either = share * area, np.broadcast_to(area, share.shape)
            value = (both.sum(2) / either.sum(2)).mean(-1)
            arms = [
                {s: (names, {"intersection": both[a, s], "union": either[a, s]}) for s in range(seeds)} for a in (0, 1)
            ]
            part, units = item_part(arms[1], arms[0], range(seeds), {})
            found = inference.evidence(value[1] - value[0], part, units)
            wrong[study] = inference.p_value(found) < ALPHA
        case = f"mIoU of {count} items, {seeds} seeds"
        yield row("a metric of the whole set: false claim at 0.05", case, wrong, "≤ 5 %")


def failures(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    for seeds in (3, 5, 8, 20):
        for name, ours, theirs, gain, wanted in (
            ("both fail in 1 run of 5, equal", 0.2, 0.2, 0.0, "≤ 5 %"),
            ("fails in 3 runs of 5 and gains 1 sd, plain never fails", 0.6, 0.0, 1.0, "≤ 5 %"),
        ):
            plain, variant = draw.normal(size=(2, studies, seeds)) * 0.5
            variant = variant + gain
            lost, lost_other = draw.random((studies, seeds)) < ours, draw.random((studies, seeds)) < theirs
            gains = np.where(lost & ~lost_other, -np.inf, np.where(lost_other & ~lost, np.inf, variant - plain))
            gains = np.where(lost & lost_other, 0.0, gains)
            failed = lost.any(1) | lost_other.any(1)
            p = np.where(failed, inference.signed_rank_p(gains), inference.p_value(inference.evidence(variant - plain)))
            median = np.where(failed, inference.median_gain(gains), (variant - plain).mean(1))
            words = inference.decide(
                median[:, None],
                p[:, None],
                np.ones((studies, 1)),
                0.0,
                seeds=seeds,
                failed=lost.sum(1)[:, None],
                failed_other=lost_other.sum(1)[:, None],
                weight=FIRST_LOOK,
            ).words[:, 0]
            some = (words == BETTER) | ((words == WORSE) & (gain == 0))
            yield row(
                "failed runs count: false claim", f"{name}, {seeds} seeds", some & ~(lost | lost_other).all(1), wanted
            )


def collapse(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    """A small gain in 9 of 10 runs, a collapse in the tenth, equal mean: few seeds often do not contain the tenth."""
    for seeds in (3, 5, 10, 20):
        fell = draw.random((studies, 1, seeds)) < 0.1
        data = np.where(fell, -9.0, 1.0) + draw.normal(0, 0.5, (studies, 1, seeds))
        case = f"gains in 9 runs of 10, collapses in the tenth, {seeds} seeds"
        yield row('equal means by a rare collapse: "better"', case, judge(data).words[:, 0] == BETTER, "")
        bound = inference.failure_bound(0, seeds)
        unseen = ~fell.any((1, 2))
        told = np.full(int(unseen.sum()), bound >= 0.1)
        yield row("of these, none seen: the risk line does not exclude 1 in 10", case, told, "95 to 100 %")


def largest(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    for seeds in (3, 5, 10):
        truth = draw.normal(0, 0.5, (studies, 12))
        data = null_differences(draw, studies, 12, seeds, "normal") + truth[..., None]
        found = inference.evidence(data)
        best = found.mean.argmax(1)[:, None]
        true, mean = np.take_along_axis(truth, best, 1), np.take_along_axis(found.mean, best, 1)
        every = ALPHA * FIRST_LOOK / 12
        for name, level, wanted in (("for all claims", every, "94 to 100 %"), ("of one alone", ALPHA, "")):
            half = np.take_along_axis(inference.half_width(found, level), best, 1)
            case = f"12 variants, {seeds} seeds, interval {name}"
            yield row("the largest gain: its interval covers the truth", case, np.abs(mean - true) <= half, wanted)


def hair(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    for seeds in (7, 10, 20):
        data = np.full((studies, 1, seeds), 1e-4)
        data[:, 0, 0] += draw.normal(0, 1e-7, studies)
        words = judge(data, margin=0.005).words[:, 0]
        case = f"1 of 10,000 images in each of {seeds} seeds, half a point matters"
        yield row('a difference by a hair: "better"', case, words == BETTER, "≤ 0 %")
        yield row('a difference by a hair: "equivalent"', case, words == EQUIVALENT, "")
    for seeds in (1, 2):
        some = judge(1 + draw.normal(0, 0.1, (studies, 1, seeds))).words != TOO_FEW
        yield row("some verdict", f"{seeds} seed{'s' if seeds > 1 else ''}", some, "≤ 0 %")


def equivalence(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    for seeds in (3, 5, 8, 20):
        for variants in (1, 12):
            noise = null_differences(draw, studies, variants, seeds, "normal")
            words = judge(noise + 1.0, margin=1.0).words
            case = f"all differ by just what matters, {seeds} seeds, {variants} variants"
            yield row("equivalence: some false claim", case, (words == EQUIVALENT).any(-1), "≤ 5 %")
            half = np.arange(variants) % 2 == 0
            words = judge(noise + np.where(half, 0.0, 2.0)[:, None], margin=2.0).words
            wrong = (claims(words) & half) | ((words == EQUIVALENT) & ~half)
            case = case.replace("all differ", "half differ by nothing, half")
            yield row("equivalence: some false claim", case, wrong.any(-1), "≤ 5 %")


def power(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    for seeds in (3, 5, 8, 20):
        for count in (1, 12):
            data = draw.normal(size=(studies, count, seeds))
            data[:, 0] += inference.smallest_seen(seeds, ALPHA * FIRST_LOOK / count) or 0.0
            words = judge(data).words
            case = f"a true difference of the planner's size, {seeds} seeds, {count} claims"
            yield row("planted effects: found", case, words[:, 0] == BETTER, "77 to 83 %")
    for seeds in (3, 5, 10):
        found = inference.evidence(draw.normal(size=(studies, seeds)))
        sd = np.sqrt(seeds * found.seed_variance)
        for name, factor in (("by the sd itself", 1.0), ("by its upper bound", inference.sd_bound(1.0, seeds - 1))):
            case = f"{seeds} seeds, {name}"
            part, wanted = '"differences under X go unseen", X under half the true one', "≤ 5 %" if factor > 1 else ""
            yield row(part, case, sd * factor < 0.5, wanted)


def control_first(draw: np.random.Generator, studies: int) -> Iterator[Row]:
    for name, control in (("worse than its control", 6.0), ("equal to its control", 4.0)):
        total, wrong = max(50, studies // 20), []
        for _ in range(total):
            scores = 0.8 + 0.001 * draw.normal(size=(3, 5)) + np.array([[0.0], [0.02], [0.005 * control]])
            wrong.append(_engine(scores).startswith("Yes"))
        case = f"better than plain, {name}, 5 seeds"
        yield row('engine: the answer begins with "Yes"', case, np.array(wrong), "≤ 5 %")


def _engine(scores: Array) -> str:
    arms = [Arm("none", "plain"), Arm("se", "attention"), Arm("wide", "control", matches=("se",))]
    rows = [
        Score(arm.label, seed, "accuracy", float(value))
        for arm, values in zip(arms, scores, strict=True)
        for seed, value in enumerate(values)
    ]
    return analyse(Setting(seeds=tuple(range(scores.shape[1])), control="size"), [RATE], arms, rows).answer.short


PARTS: dict[str, Callable[[np.random.Generator, int], Iterator[Row]]] = {
    part.__name__: part
    for part in (
        one_look, one_family, looks, dropping, items, grouped_items, divisions, set_level, failures, collapse, largest,
        hair, equivalence, power, control_first,
    )
}  # fmt: skip


# -- what is written --------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Calibration of the verdicts.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the studies")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--real", type=Path, help="folder of a study: A/A studies resampled from its runs")
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--out", type=Path, help="folder for the JSON and the table; none: print")
    given = parser.parse_args()
    studies = given.studies // (10 if given.quick else 1)
    began, rows, pairing = time.process_time(), list[Row](), dict[str, float]()
    notes = [f"{studies:,} simulated studies a row unless the count says otherwise."]
    if given.real:
        rows, pairing = real(given.real, 2 * studies)
        gains = [f"Correlation of the paired runs of {arms}: {value:.2f}." for arms, value in pairing.items()]
        notes = [*EXPLAINED.strip().splitlines(), "", *gains]
        print("\n".join(gains))
    else:
        for number, (name, part) in enumerate(PARTS.items()):
            if given.only in (None, name):
                rows += part(np.random.default_rng((7, number)), studies)
                print(f"{name}: {time.process_time() - began:.0f} s", flush=True)
    command = "python benchmarks/calibration.py" + (" --real FOLDER" if given.real else "")
    about = {"command": command, "studies": studies, "seconds": time.process_time() - began, "versions": versions()}
    about |= {"pairing": pairing} if pairing else {}
    about["notes"] = notes
    text = markdown(rows, about)
    if given.out is None:
        print(text)
    else:
        given.out.mkdir(parents=True, exist_ok=True)
        name = f"real_{given.real.name}" if given.real else "calibration"
        write_json(given.out / f"{name}.json", about | {"rows": [asdict(one) | {"rate": one.rate} for one in rows]})
        write_whole(given.out / f"{name}.md", text.encode())
    print(f"{sum(one.holds is False for one in rows)} rows do not hold")


if __name__ == "__main__":
    main()
