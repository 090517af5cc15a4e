"""The figure over the learning rate: what is drawn, chosen and marked; and what config/rates.yaml sweeps."""

import copy

import numpy as np
import pytest
import tabled
from rated import CELLS, RATES, RIGHT, rated

from pissa_repro.exhibits import output
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style

LOST = [("pissa", 1e-2, 0), ("pissa", 1e-2, 1), ("full", 1e-2, 1)]


@pytest.fixture
def figure(tmp_path, config, monkeypatch):
    """A function that draws a sweep in which these trainings diverged; one method is LoRA with another weight decay."""
    monkeypatch.setitem(RIGHT, "decayed", RIGHT["lora"])
    for known in (tabled.LOSS, tabled.RIGHT):
        monkeypatch.setitem(known, ("decayed", "none"), 0.5)
    changed = copy.deepcopy(config)
    changed["methods"]["decayed"] = {"init": "lora", "display": "LoRA, decay 1"}
    decay = {"where": {"method": "decayed"}, "set": {"weight_decay": 1}, "why": "LoRA with weight decay"}

    def draw(lost=(), decayed=True):
        more = [{"method": "decayed", "quant": "none"}] if decayed else []
        sweep, _ = rated(tmp_path, changed | {"overrides": [decay]}, lost, cells=CELLS + more)
        with style.context():
            drawn = output(sweep, "figure", "extra/rate_curves").exhibit.make(sweep, tmp_path)
            drawn.draw_without_rendering()
        return drawn

    return draw


def line(axes, label):
    (found,) = (one for one in axes.lines if one.get_label() == label)
    return found


def test_a_line_is_the_mean_of_seeds_and_breaks_where_one_diverged(figure):
    loss, decay, score, _ = figure(LOST).axes
    found = line(score, "PiSSA")
    assert found.get_xdata() == pytest.approx(RATES, rel=0.1)
    wanted = [100 * (count + 0.5) / tabled.ITEMS for count in RIGHT["pissa"][1]]
    assert found.get_ydata()[:2] == pytest.approx(wanted[:2]) and np.isnan(found.get_ydata()[2])
    assert np.isfinite(line(score, "LoRA").get_ydata()).all() and np.isnan(line(loss, "full FT").get_ydata()[2])
    crosses = [one for one in loss.lines if one.get_marker() == "x"]
    assert [one.get_xdata()[0] for one in crosses] == [1e-2, 1e-2]
    assert len({one.get_ydata()[0] for one in crosses}) == 2  # one below the other
    assert {"2/2", "1/2"} <= {text.get_text() for text in loss.texts}
    assert [axes.get_title() for axes in (loss, decay)] == ["base as it is", "weight decay"]


def test_the_chosen_rate_has_a_ring(figure):
    _, _, score, _ = figure().axes
    rings = [one for one in score.lines if one.get_markerfacecolor() == "none"]
    assert sorted(one.get_xdata()[0] for one in rings) == pytest.approx([3e-3, 3e-3, 1e-2], rel=0.1)
    labels = [text.get_text() for text in score.figure.legends[0].get_texts()]
    assert "best on\nvalidation items" in labels and "one rate for all,\n0.003" in labels
    assert not any("diverged" in label for label in labels)


def test_variants_by_weight_decay_have_a_panel_with_what_they_vary(figure):
    loss, decay, *_ = figure().axes
    named = [{one.get_label() for one in axes.lines if one.get_marker() not in ("None", "x")} for axes in (loss, decay)]
    assert {"LoRA", "PiSSA", "full FT"} <= named[0] and "LoRA, decay 1" not in named[0]
    assert {"LoRA", "LoRA, decay 1"} <= named[1] and "PiSSA" not in named[1]
    assert len(figure(decayed=False).axes) == 2


def test_the_shipped_config_has_five_rates_and_chooses_on_other_items():
    """Five rates, three seeds, validation beside test; the one rate is that of the embedded sweep."""
    default, sweep = (
        load(*(ROOT / "config" / f"{name}.yaml" for name in names)) for names in (["config"], ["config", "rates"])
    )
    swept, cells = sweep["sweep"], Sweep(sweep).cells.values()
    assert (len(swept["learning_rates"]), len(swept["seeds"]), swept["tasks"]) == (
        5,
        3,
        ["gsm-mini", "gsm-mini-validation"],
    )
    assert default["sweep"]["learning_rates"] == [swept["common_rate"]]
    pairs = {(cell.method, cell.quant) for cell in cells}
    assert pairs >= {(cell["method"], cell["quant"]) for cell in default["sweep"]["cells"]}
    assert {dict(cell.train)["weight_decay"] for cell in cells} == {0, 1}
    tests, validation = (sweep["datasets"][name] for name in ("gsm-mini-test", "gsm-mini-validation"))
    assert tests["path"] != validation["path"]
    one = Sweep(default)
    assert output(one, "figure", "extra/rate_curves").exhibit.needs(one) == []
    assert output(one, "table", "extra/two_rates").exhibit.needs(one) == []
