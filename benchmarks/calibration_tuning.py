"""False claims of a study whose two arms are equal and choose their learning rate: once for all seeds, or in each seed.

Each network's score is the effect of its rate plus chance of its seed; the validation part shows it with chance of its
own. "apart" chooses once, by the mean over three other seeds; "once" by the mean over the study's own seeds; "in each
seed", as foveate does, by that seed's run alone. A claim is a paired t test below 0.05.

    python benchmarks/calibration_tuning.py --out results/calibration_verdicts/tuning.json
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

EFFECTS = {  # of three rates, in standard deviations of a score over seeds
    "all equal": (0.0, 0.0, 0.0),
    "one worse by 1 sd": (-1.0, 0.0, 0.0),
    "one worse by 3, one by 0.5 sd": (-3.0, 0.0, -0.5),
    "two worse by 3 sd": (-3.0, 0.0, -3.0),
}
SEEDS = (3, 5, 10, 20)
TUNING_SEEDS = 3
VALIDATION_SD, TEST_SD = 1.5, 0.5  # of what a part's items add to a score
WAYS = ("apart", "once", "in each seed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    draw = np.random.default_rng(given.seed)
    rows = [
        {"rates": name, "seeds": seeds} | {way: false_claims(draw, effects, seeds, way, given.studies) for way in WAYS}
        for name, effects in EFFECTS.items()
        for seeds in SEEDS
    ]
    about = {"studies": given.studies, "tuning_seeds": TUNING_SEEDS}
    about |= {"validation_sd": VALIDATION_SD, "test_sd": TEST_SD}
    text = json.dumps({"about": about, "rows": rows}, indent=1)
    if given.out:
        given.out.write_text(f"{text}\n", encoding="utf-8")
    print(text)


def false_claims(draw: np.random.Generator, effects: tuple[float, ...], seeds: int, way: str, studies: int) -> float:
    """The share of studies that claim a difference between two arms that have none."""
    ours, theirs = (_arm(draw, np.array(effects), seeds, way, studies) for _ in range(2))
    return float(np.mean(stats.ttest_rel(ours, theirs, axis=1).pvalue < 0.05))


def _arm(
    draw: np.random.Generator, effects: NDArray[np.float64], seeds: int, way: str, studies: int
) -> NDArray[np.float64]:
    """(studies, seeds) test scores of the chosen networks."""

    def networks(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        quality = effects + draw.normal(0, 1, (studies, count, len(effects)))
        return quality, quality + draw.normal(0, VALIDATION_SD, quality.shape)

    quality, validation = networks(seeds)
    test = quality + draw.normal(0, TEST_SD, quality.shape)
    if way == "in each seed":
        chosen = validation.argmax(2)
    else:
        seen = validation if way == "once" else networks(TUNING_SEEDS)[1]
        chosen = np.repeat(seen.mean(1).argmax(1)[:, None], seeds, axis=1)
    return np.take_along_axis(test, chosen[:, :, None], axis=2)[:, :, 0]


if __name__ == "__main__":
    main()
