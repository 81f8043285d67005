"""Scales, places of names, numbers and curves of the report."""

import re
from dataclasses import replace

import pytest
from report_studies import ERROR, make_summary

from foveate.report import numbers
from foveate.report.drawing import bounds, scale, shorten
from foveate.report.labels import Box, place
from foveate.report.learning import learning_curves, logged_names
from foveate.report.page import page
from foveate.spec import Metric
from foveate.summary import CurvePoint, Estimate


def test_every_logged_value_is_drawn_with_its_name() -> None:
    usual = make_summary({"se": 0.01})
    line = tuple(CurvePoint(epoch, 0.1 * epoch, 0.1 * epoch, 0.1 * epoch, 1) for epoch in (1, 2))
    names = ("train_loss", "validation_loss", "test_mIoU", "test_error", "train_repulsion", "grad norm")
    summary = replace(
        usual, metrics=(usual.metric, ERROR), curves={"se": dict.fromkeys(names, line), "none": {"grad norm": line}}
    )
    assert logged_names(summary) == [
        "test_mIoU",
        "test_error",
        "validation_loss",
        "train_loss",
        "grad norm",
        "train_repulsion",
    ]
    text = page(summary)
    for title in (
        "mIoU on held-out items (%)",
        "error on held-out items (px, lower is better)",
        "loss on validation items",
        "loss on training items",
        "repulsion on training items",
        "grad norm",
    ):
        assert title in text


def test_the_axis_of_a_low_figure_has_a_short_title() -> None:
    summary = make_summary({"se": 0.01}, metric=ERROR, control=False)
    assert ">error (px)</text>" in "".join(learning_curves(summary, "test_error").parts)
    high = make_summary({f"v{i}": 0.0 for i in range(9)}, metric=ERROR)
    assert ">error on held-out items (px, lower is better)</text>" in "".join(learning_curves(high, "test_error").parts)


def test_a_short_curve_is_drawn_from_its_first_epoch() -> None:
    def lowest(epochs: int) -> float:
        drawing = learning_curves(make_summary({"se": 0.01}, seeds=1, epochs=epochs), "test_mIoU")
        box = re.search(
            r'<clipPath[^>]*><rect x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', str(drawing.parts)
        )
        curve = re.search(r"'<path d=\"M([^\"]*)\" class=\"plain curve\"/>'", str(drawing.parts))
        assert box
        assert curve
        bottom = float(box[1]) + float(box[2])
        return bottom - float(curve[1].split(" L")[0].split()[1])  # how far the first epoch is above the frame's end

    assert lowest(2) >= 0
    assert lowest(5) >= 0
    assert lowest(30) < 0  # of long curves the first climb lies outside


def test_names_in_a_crowd_do_not_cover_each_other() -> None:
    points = [(300.0 + 18 * (i % 4), 200.0 + 9 * (i // 4)) for i in range(12)]
    names = [f"variant {i} (kernel_size=7)" for i in range(12)]
    spots = place(points, names, [], Box(60, 20, 940, 420), 12)
    for i, one in enumerate(spots):
        assert one.box.outside(Box(60, 20, 940, 420)) == 0
        assert all(one.box.overlap(other.box) == 0 for other in spots[:i])


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (84.96, 85.04), (1e-5, 3e-5), (5.0, 5.0), (-1200.0, 800.0)])
def test_ticks_are_inside_and_told_apart(low: float, high: float) -> None:
    axis = scale(low, high, 0, 100)
    assert len(axis.ticks) >= 2
    assert all(axis.low - 1e-12 <= tick <= axis.high + 1e-12 for tick in axis.ticks)
    assert len({axis.label(tick) for tick in axis.ticks}) == len(axis.ticks)


def test_numbers_as_people_read_them() -> None:
    assert [numbers.compact(v) for v in (999, 78_042, 12_501_000, 4.1e9, None)] == [
        "999",
        "78.0 k",
        "12.5 M",
        "4.10 G",
        "–",
    ]
    assert [numbers.milliseconds(v) for v in (0.01234, 1.2345, 2, 12.34, 1234.5)] == [
        "0.0123",
        "1.23",
        "2.00",
        "12.3",
        "1234",
    ]
    assert [numbers.percent(v) for v in (0, 0.43, -0.004, 12)] == ["0 %", "+0.4 %", "−0.004 %", "+12.0 %"]
    assert [numbers.signed(v) for v in (0, 1200, -3)] == ["0", "+1,200", "−3"]
    assert [numbers.duration(v) for v in (12.2, 221.4, 7300)] == ["12 s", "3 min 41 s", "2 h 1 min"]
    assert shorten("cbam (kernel_size=3)", 1000, 12) == "cbam (kernel_size=3)"
    assert len(shorten("x" * 90, 100, 12)) <= 16


def test_equal_values_get_an_axis_that_can_be_read() -> None:
    for value in (0.0, 1 / 6, 100 / 6, 100.0):
        axis = scale(*bounds([value, value], [value]), 0.0, 100.0)
        assert len(axis.ticks) >= 3
        assert max(len(axis.label(tick)) for tick in axis.ticks) <= 6


def test_values_are_shown_as_exactly_as_their_interval_allows() -> None:
    def shown(metric: Metric, mean: float, half: float) -> tuple[str, str]:
        return numbers.estimate(metric, Estimate(mean, 1.0, mean - half, mean + half, (0, 1), (mean, mean)))

    assert shown(Metric("mIoU"), 0.84219, 0.0132) == ("84.2", "1.3")
    assert shown(ERROR, 1234.567, 3.21) == ("1234.6", "3.2")
    assert shown(ERROR, 0.0123456, 0.00123) == ("0.0123", "0.0012")
    assert shown(ERROR, -1500.0, 120.0) == ("−1500", "120")
    assert numbers.estimate(ERROR, Estimate(1.2345, None, None, None, (0,), (1.2345,))) == ("1.23", "")
    assert numbers.estimate(ERROR, None) == ("–", "")


@pytest.mark.parametrize("size", [1e-9, 1e-3, 1.0, 5e8])
def test_axes_of_any_size_can_be_read(size: float) -> None:
    axis = scale(*bounds([1.0 * size, 1.7 * size], [0.8 * size, 2 * size]), 0.0, 100.0)
    assert len(axis.ticks) >= 3
    assert len({axis.label(tick) for tick in axis.ticks}) == len(axis.ticks)
    assert max(len(axis.label(tick)) for tick in axis.ticks) <= 9
