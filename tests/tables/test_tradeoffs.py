"""Figures of what is reached against what it costs, and by rank. Every number is invented."""

import copy

import pytest
import tabled
from figured import drawn

from pissa_repro.exhibits import output
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures.tradeoffs import front
from pissa_repro.runtime.errors import UserError


def test_the_front_is_what_no_other_point_beats_in_both():
    points = [(3.0, 9.0), (1.0, 5.0), (2.0, 4.0), (2.0, 7.0), (4.0, 8.0)]
    assert front(points, higher=True) == [(1.0, 5.0), (2.0, 7.0), (3.0, 9.0)]
    assert front(points, higher=False) == [(1.0, 5.0), (2.0, 4.0)]


def test_costs_have_a_point_for_each_row(tmp_path, config):
    tabled.make(tmp_path, config)
    figure = drawn("pareto", Sweep(config), tmp_path)
    assert len(figure.axes) == 6
    for axes in figure.axes:
        points = [line for line in axes.lines if len(line.get_xdata()) == 1]
        assert len(points) >= 6, axes.get_xlabel()
    assert [axes.get_xlabel() for axes in figure.axes[:3]] == [
        "trained parameters",
        "seconds of training",
        "peak memory (GiB)",
    ]


def test_the_map_holds_the_score_of_every_method_at_every_rank(tmp_path, config):
    config = copy.deepcopy(config)
    config["sweep"]["cells"] = [{"method": name, "quant": "none"} for name in ("full", "lora", "pissa")]
    config["sweep"]["ranks"] = [4, 16]
    tabled.make(tmp_path, config)
    figure = drawn("ranks", Sweep(config), tmp_path)
    score, loss = figure.axes[0], figure.axes[2]
    assert [tick.get_text() for tick in score.get_xticklabels()] == ["4", "16", "none"]
    assert [tick.get_text() for tick in score.get_yticklabels()] == ["full FT", "LoRA", "PiSSA"]
    assert {text.get_text() for text in loss.texts} == {"0.401", "0.501", "0.601"}
    assert len(score.texts) == 5, "no square where nothing was trained"
    image = score.images[0].get_array()
    assert image.mask.sum() == 4 if image.mask.any() else (image != image).sum() == 4


def test_one_rank_has_no_map(config):
    sweep = Sweep(config)
    assert output(sweep, "figure", "extra/ranks").exhibit.needs(sweep) == []
    with pytest.raises(UserError, match="nothing to show"):
        output(sweep, "figure", "extra/ranks").needs()
