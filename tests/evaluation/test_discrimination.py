"""ROC and precision-recall curves, their bands and forest plots."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import f1_score, precision_score, recall_score

from fundusnet.evaluation.discrimination import GRID, Scores, bands, precision_recall, roc
from fundusnet.evaluation.figures import encode
from fundusnet.evaluation.forest import forest
from fundusnet.evaluation.intervals import predictive_values
from fundusnet.evaluation.paper import _fit


def some_scores(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    label = np.arange(n) % 3 == 0
    return label.astype(float), label + generator.normal(0, 0.8, n)


def test_a_curve_of_one_class_is_left_out() -> None:
    curves = {"a": Scores([1, 0, np.nan], [0.9, 0.1, 0.5], point=(1.0, 1.0, 1.0)), "b": Scores([1, 1], [0.2, 0.3])}
    for draw in (roc, precision_recall):
        assert draw(curves).axes[0].get_legend_handles_labels()[1] == ["a  1.000"]


def test_a_figure_says_how_many_images_it_is_drawn_from() -> None:
    label, score = some_scores()
    label[:6] = np.nan
    title = roc({"a": Scores(label, score)}, "ROC: drusen").axes[0].get_title()
    assert title == "ROC: drusen\nn = 18 with, 36 without"


@pytest.mark.parametrize("count", [1, 2, 6])
def test_long_names_leave_the_axes_their_size_and_lie_below_them(count: int) -> None:
    """A network's name of 60 letters made the axes of a figure for one column a third as wide."""
    label, score = some_scores()

    def drawn(name: str) -> Figure:
        figure = roc({f"{name} {number}": Scores(label, score) for number in range(count)})
        _fit(figure)
        encode(figure, tight=False)
        return figure

    short, long = drawn("a"), drawn("hard_exudate+hemorrhage (tf_efficientnet_lite0, frozen) linear λ=0")
    widths = [figure.axes[0].get_window_extent().width / figure.bbox.width for figure in (short, long)]
    assert widths[1] >= 0.95 * widths[0] and long.axes[0].title.get_window_extent().y1 <= long.bbox.height
    if count > 1:  # an only curve needs no name
        box = long.legends[0].get_window_extent()
        assert box.x0 >= 0 and box.x1 <= long.bbox.width and box.y0 >= 0
        assert box.y1 <= long.axes[0].xaxis.label.get_window_extent().y0


def test_chance_is_drawn_at_the_prevalence() -> None:
    label, score = some_scores()
    lines = precision_recall({"a": Scores(label, score)}).axes[0].lines
    assert any(list(line.get_ydata()) == [pytest.approx(1 / 3)] * 2 for line in lines)


def test_bands_hold_the_curve_and_narrow_with_more_patients() -> None:
    widths = []
    for n in (60, 600):
        label, score = some_scores(n)
        (low, high), precision = bands(label, score, np.arange(n), n=200)
        thresholds = np.unique(score)
        alarms = np.array([(score[label == 0] >= t).mean() for t in thresholds])
        hits = np.array([(score[label == 1] >= t).mean() for t in thresholds])
        middle = np.interp(GRID, alarms[::-1], hits[::-1])
        assert (low <= middle + 0.05).all() and (high >= middle - 0.05).all()
        assert low[-1] == high[-1] == 1  # everything is called positive
        assert precision[0][-1] <= label.mean() + 0.15
        widths.append((high - low).mean())
    assert widths[1] < 0.6 * widths[0]


def test_images_of_one_patient_are_drawn_together() -> None:
    label, score = some_scores(60)
    alone = bands(label, score, np.arange(60), n=300)[0]
    together = bands(np.tile(label, 4), np.tile(score, 4), np.tile(np.arange(60), 4), n=300)[0]
    assert (together[1] - together[0]).mean() == pytest.approx((alone[1] - alone[0]).mean(), rel=0.1)


def test_predictive_values_are_those_of_scikit_learn() -> None:
    label, score = some_scores()
    yes = (score > 0.6).astype(float)
    found = {name: float(one.compute(np.ones((1, 60)))[0]) for name, one in predictive_values(label, yes).items()}
    assert found["ppv"] == pytest.approx(precision_score(label, yes))
    assert found["npv"] == pytest.approx(recall_score(1 - yes, 1 - label))
    assert found["f1"] == pytest.approx(f1_score(label, yes))
    undecided = predictive_values(np.r_[label, np.nan], np.r_[yes, 1.0])
    assert float(undecided["ppv"].compute(np.ones((1, 61)))[0]) == pytest.approx(found["ppv"])
    assert float(undecided["f1"].compute(np.ones((1, 61)))[0]) == pytest.approx(found["f1"])


def test_a_forest_has_a_row_for_each_method_and_fills_what_excludes_zero() -> None:
    clear = {"value": 0.2, "ci95": [0.1, 0.3]}
    unclear = {"value": 0.1, "ci95": [-0.1, 0.3]}
    figure = forest(
        ["a", "b", "c"], {"AUROC": [clear, unclear, None], "AIR": [None, clear, clear]}, "drusen", zero=True
    )
    first, second = figure.axes
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["a", "b", "c"]
    dots = [line for line in first.lines if line.get_marker() == "s"]
    assert [(dot.get_xdata()[0], dot.get_ydata()[0]) for dot in dots] == [(0.2, 2), (0.1, 1)]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, True]
    assert len([line for line in second.lines if line.get_marker() == "s"]) == 2


def test_many_curves_leave_the_axes_their_size() -> None:
    label, score = some_scores()

    def axes_size(count: int) -> tuple[float, float]:
        figure = roc({f"loss.weight={n}, data.size=64": Scores(label, score) for n in range(count)})
        figure.draw_without_rendering()
        box = figure.axes[0].get_window_extent()
        return box.width, box.height

    few, many = axes_size(2), axes_size(12)
    assert many[0] > 0.85 * few[0] and many[1] > 0.85 * few[1]


def test_a_forest_of_long_names_is_whole() -> None:
    """A title as wide as two columns was cut at both ends, and ticks ran into each other."""
    names = ["with guidance, λ=10 (tf_efficientnet_lite0)", "Inception-v3"]
    entry = {"value": -0.2, "ci95": [-0.5, 0.3]}
    counts = "cotton wool patch (n = 104 with, 1396 without)"
    title = f"{counts}: difference to without guidance (tf_efficientnet_lite0, frozen), paired, 95 % intervals"
    figure = forest(names, {f"metric {number}": [entry, entry] for number in range(8)}, title, zero=True)
    _fit(figure)
    encode(figure, tight=False)
    assert figure._suptitle is not None
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    for axes in figure.axes:
        labels = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        inside = [box for box in labels if axes.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1 + 1]
        assert all(one.x1 < other.x0 for one, other in pairwise(inside))
        assert axes.bbox.width > 0.15 * figure.bbox.width  # names beside it leave it room
