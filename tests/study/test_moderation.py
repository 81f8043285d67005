"""On what a gain depends: the mixed model against least squares, its coverage, and what the page says."""

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from foveate.report import across_table, write_across
from foveate.report.languages import FOOT, catalogue
from foveate.spec import Metric
from foveate.study.analyse import across, analyse
from foveate.study.analyse.moderation import mixed_line
from foveate.summary import Across, Arm, Failure, Score, Setting, Summary


def cell(base: float, gain: float | None, number: int, metric: Metric, lost: bool = False) -> Summary:
    draw, arms = np.random.default_rng(number), [Arm("none", "plain"), Arm("se", "attention")]
    plain = base + draw.normal(0, 0.004, 5)
    ours = plain if gain is None else plain + gain + draw.normal(0, 0.004, 5)
    rows = [Score("none", seed, metric.name, value) for seed, value in enumerate(plain)]
    rows += [Score("se", seed, metric.name, value) for seed, value in enumerate(ours) if seed or not lost]
    failed = [Failure("se", 0, "loss was nan")] if lost else []
    return analyse(Setting(network="net", seeds=tuple(range(5))), [metric], arms, rows, failed=failed)


def cells(slope: float, count: int = 8, *, metric: Metric | None = None, lost: bool = False) -> Across:
    """Data sets whose plain score runs from 0.4 to 0.9, with a gain that falls or rises with it."""
    bases = np.linspace(0.4, 0.9, count)
    wanted = metric or Metric("accuracy")
    made = [cell(b, slope * (b - 0.65), n, wanted, lost and not n) for n, b in enumerate(bases)]
    return across({f"set {number}": one for number, one in enumerate(made)})


def test_the_line_of_groups_of_one_size_is_that_of_least_squares() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=9)
    groups = [0.3 * at + draw.normal(0, 0.5) + draw.normal(0, 1, 4) for at in x]
    found, least = mixed_line(groups, x), stats.linregress(x, [one.mean() for one in groups])
    assert found.slope == pytest.approx(least.slope)
    assert found.errors[1] == pytest.approx(least.stderr)
    assert found.intercept == pytest.approx(np.mean([one.mean() for one in groups]))
    assert found.within_sd**2 == pytest.approx(np.mean([one.var(ddof=1) for one in groups]), rel=1e-3)
    with pytest.raises(ValueError, match="wanted three groups or more, at different x; got 2"):
        mixed_line(groups[:2], x[:2])
    with pytest.raises(ValueError, match="at different x"):
        mixed_line(groups, np.ones(9))


def test_the_interval_of_the_slope_covers_where_groups_differ_in_size() -> None:
    draw, inside, x = np.random.default_rng(1), 0, np.linspace(-1, 1, 8)
    for _ in range(400):
        groups = [
            0.5 * at + draw.normal(0, 0.3) + draw.normal(0, 1, size) for at, size in zip(x, [3, 9] * 4, strict=True)
        ]
        found = mixed_line(groups, x)
        inside += abs(found.slope - 0.5) <= stats.t.ppf(0.975, found.freedom) * found.errors[1]
    assert 0.93 <= inside / 400 <= 0.98


def test_a_gain_that_falls_with_the_plain_score_is_found() -> None:
    (found,) = cells(-0.1).moderation
    assert (found.label, len(found.sets)) == ("se", 8)
    assert found.low < -0.1 < found.high < 0
    assert found.base == pytest.approx(0.65, abs=0.01)
    assert abs(found.coupled) < 0.01 * abs(found.slope)
    assert found.text.startswith("the gain of se depends on the plain network's accuracy: −1.0 points")
    assert "p < 0.001 against " in found.text


def test_one_that_does_not_is_not_claimed_and_lower_errors_are_gains() -> None:
    (found,) = cells(0.0).moderation
    assert found.low < 0 < found.high
    assert "does not detectably depend on" in found.text
    (error,) = cells(0.1, metric=Metric("error", unit="px", better="lower")).moderation
    assert error.slope == pytest.approx(-0.1, abs=0.02)


def test_gains_of_0_everywhere_have_a_slope_of_0() -> None:
    made = {f"set {number}": cell(0.4 + 0.05 * number, None, number, Metric("accuracy")) for number in range(8)}
    (found,) = across(made).moderation
    assert (found.gain, found.slope, found.low, found.high, found.p) == (0, 0, 0, 0, 1)


def test_too_few_sets_or_failed_runs_have_no_line() -> None:
    assert cells(-0.1, 5).moderation == ()
    assert cells(-0.1, lost=True).moderation == ()


def test_page_and_terminal_show_the_line(tmp_path: Path) -> None:
    found = cells(-0.1, 6)
    page = write_across(found, tmp_path, "zh").read_text(encoding="utf-8")
    assert '<h2 id="moderation">' in page
    assert catalogue("zh").exact[FOOT] not in page
    assert (tmp_path / "gain_of_se.png").stat().st_size > 1000
    console = Console(width=100, file=StringIO())
    console.print(across_table(found))
    assert "The gain of se depends on the plain" in console.file.getvalue()
