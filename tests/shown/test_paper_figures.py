"""Figures 4 to 8 and 15 to 17 from records made by hand: what is plotted, what is published, what is missing."""

import copy
import shutil

import numpy
import pytest
from recorded import ITEMS, loss_of, record, right

from pissa_repro.exhibits import output
from pissa_repro.paper.published import printed
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import over_rank, style
from pissa_repro.report.figures.looks import look
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError

RATES = [3e-3, 1e-2]
OF_CELLS = ("figure4", "figure5", "figure6", "figure8", "figure15", "figure16", "figure17")


def drawn(sweep, folder, name):
    one = output(sweep, "figure", f"paper/{name}")
    with style.context():
        figure = one.exhibit.make(one.sweep, folder)
        figure.draw_without_rendering()
    return figure


def told(figure):
    return " ".join(figure.get_supxlabel().split())


@pytest.fixture(scope="module")
def figures(swept, recorded):
    """All of them, drawn once."""
    return {name: drawn(swept, recorded, name) for name in OF_CELLS}


def test_loss_gradient_norm_and_scores_stand_side_by_side(figures, swept):
    loss, norm, score = figures["figure4"].axes
    assert norm.get_yscale() == "log" and [line.get_label() for line in loss.lines] == ["full FT", "LoRA", "PiSSA"]
    cells = [c for c in swept.shown_in("figure4").cells.values() if c.method == "pissa" and c.quant == "none"]
    assert loss.lines[2].get_ydata()[-1] == pytest.approx(numpy.mean([loss_of(cell) + 2 / 24 for cell in cells]))
    assert score.patches[2].get_height() == pytest.approx(
        100 * numpy.mean([right(c, "gsm-mini") for c in cells]) / ITEMS
    )
    assert "none is taken in between" in told(figures["figure4"]) and "their values are not printed" in told(
        figures["figure4"]
    )


def test_the_quantized_ones_are_in_figure_5_with_the_digitised_points(figures):
    loss, _, _, published = figures["figure5"].axes
    assert len(loss.lines) == 6
    table = printed("fig5c_llama3_8b_digitised")
    assert [list(line.get_ydata()) for line in published.lines] == [row["values"] for row in table["rows"]]
    colours = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in loss.lines}
    assert {line.get_label(): (line.get_color(), line.get_linestyle()) for line in published.lines} == colours


def test_bars_by_model_with_those_of_the_paper_below(figures):
    ours, gsm8k, humaneval = figures["figure6"].axes
    assert len(ours.patches) == 4 and len(ours.containers) >= 4
    rows = printed("fig6_models_digitised")["rows"]
    assert [bar.get_height() for bar in gsm8k.patches] == [
        row[word] for row in rows["gsm8k"] for word in ("lora", "pissa")
    ]
    assert len(humaneval.patches) == 2 * len(rows["humaneval"])


def test_principal_middle_and_minor_by_loss_and_score(figures, swept):
    loss, score = figures["figure8"].axes
    cells = list(swept.shown_in("figure8").cells.values())
    assert [bar.get_height() for bar in loss.patches] == pytest.approx([loss_of(cell) for cell in cells])
    assert len(score.patches) == 3
    several = [[type(one).__name__ for one in axes.containers].count("ErrorbarContainer") for axes in (loss, score)]
    assert several == [0, 3], "of one seed: over the items, which a loss has not"
    assert "one seed" in told(figures["figure8"])


def test_lines_over_the_rank_and_full_fine_tuning_across(figures, swept):
    loss = figures["figure15"].axes[0]
    lines = {line.get_label(): line for line in loss.lines if not line.get_label().startswith("_")}
    across = next(line for line in loss.lines if len(set(line.get_ydata())) == 1)
    assert across.get_color() == look("", "full", "none").colour
    containers = {container.get_label(): container[0] for container in loss.containers}
    assert list(containers["PiSSA"].get_xdata()) == [1, 4, 16, 64] and "full FT" in lines
    cells = [cell for cell in swept.shown_in("figure15").cells.values() if cell.method == "pissa"]
    assert list(containers["PiSSA"].get_ydata()) == pytest.approx([loss_of(cell) for cell in cells])
    titles = [axes.get_title(loc="left") for axes in figures["figure15"].axes if axes.get_title(loc="left")]
    assert titles[0] == "mini-llama (embedded)" and titles[1].startswith("published, LLaMA-2-7B")


def test_a_published_value_that_is_not_known_is_left_out():
    lora = next(
        line
        for line in over_rank._published(False)["published, LLaMA-2-7B, digitised"][over_rank.GSM8K]
        if len(line.ranks) == 7
    )
    assert lora.ranks[0] == 2 and lora.values[0] == 26.23


def test_a_panel_for_every_rank_of_figures_16_and_17(figures):
    for name in ("figure16", "figure17"):
        assert [axes.get_title() for axes in figures[name].axes] == [f"rank {rank}" for rank in (1, 4, 16, 64)]
        assert all([line.get_label() for line in axes.lines] == ["LoRA", "PiSSA"] for axes in figures[name].axes)


@pytest.mark.parametrize("name", OF_CELLS)
def test_a_figure_is_drawn_with_what_there_is_and_says_what_is_missing(name, swept, recorded, tmp_path):
    folder = tmp_path / "results"
    own = output(swept, "figure", f"paper/{name}").sweep.cells
    shutil.copytree(recorded, folder)
    lost = next(cell for cell in own.values() if cell.method == "pissa" and cell.quant == "none")
    shutil.rmtree(paths.cell(lost.name, folder).folder)
    assert f"missing, without a record: PiSSA rank {lost.rank} seed 0" in told(drawn(swept, folder, name))
    shutil.rmtree(paths.cells(folder))
    with pytest.raises(UserError, match="no such record of any of"):
        drawn(swept, folder, name)


@pytest.fixture(scope="module")
def two_rates(swept, tmp_path_factory):
    """The same with two learning rates, one of its cells lost; and the folder of records."""
    config, folder = copy.deepcopy(swept.config), tmp_path_factory.mktemp("two_rates")
    config["sweep"] |= {"learning_rates": RATES, "seeds": [0]}
    config["exhibits"] = {name: config["exhibits"][name] for name in ("figure8", "figure15")}
    sweep = Sweep(config)
    lost = next(n for n, c in sweep.shown_in("figure4").cells.items() if (c.method, c.learning_rate) == ("lora", 1e-2))
    record(sweep, folder, skip=[lost])
    return sweep, folder


def at(sweep, name, method, rate):
    """The invented losses of a method's cells in a figure at a rate."""
    cells = sweep.shown_in(name).cells.values()
    return [loss_of(c) for c in cells if (c.method, c.quant, c.learning_rate) == (method, "none", rate)]


def test_a_row_over_the_rank_for_every_rate(two_rates):
    sweep, folder = two_rates
    figure = drawn(sweep, folder, "figure15")
    assert figure.get_suptitle() == "Loss and scores over the rank: mini-llama (embedded)"
    for number, rate in enumerate(RATES):
        loss = figure.axes[2 * number]
        assert loss.get_title(loc="left") == f"mini-llama (embedded)\nlearning rate {rate:g}"
        pissa = {container.get_label(): container[0] for container in loss.containers}["PiSSA"]
        assert list(pissa.get_xdata()) == [1, 4, 16, 64]
        assert list(pissa.get_ydata()) == pytest.approx(at(sweep, "figure15", "pissa", rate))
        across = [line.get_ydata()[0] for line in loss.lines if len(set(line.get_ydata())) == 1]
        assert across == pytest.approx(at(sweep, "figure15", "full", rate))


def test_a_row_of_curves_for_every_rate(two_rates):
    sweep, folder = two_rates
    figure = drawn(sweep, folder, "figure4")
    for loss, rate, names in zip(
        figure.axes[::3], RATES, (["full FT", "LoRA", "PiSSA"], ["full FT", "PiSSA"]), strict=True
    ):
        assert f"learning rate {rate:g}" in loss.get_ylabel().split("\n")
        assert [line.get_label() for line in loss.lines] == names
        assert loss.lines[-1].get_ydata()[-1] == pytest.approx(at(sweep, "figure4", "pissa", rate)[0] + 2 / 24)
    assert "missing, without a record: LoRA rank 16 rate 0.01 seed 0" in told(figure)


def test_a_group_of_bars_for_every_rate(two_rates):
    sweep, folder = two_rates
    loss, _ = drawn(sweep, folder, "figure8").axes
    names = [label.get_text() for label in loss.get_xticklabels()]
    assert names == [f"mini-llama (embedded)\nlearning rate {rate:g}" for rate in RATES]
    bars = sorted(loss.patches, key=lambda bar: bar.get_x())
    wanted = [
        one for rate in RATES for name in ("pissa", "middle", "milora") for one in at(sweep, "figure8", name, rate)
    ]
    assert [bar.get_height() for bar in bars] == pytest.approx(wanted)


def test_a_group_of_bars_for_every_rank_and_dataset(swept, tmp_path):
    """Else several bars would look alike."""
    config = copy.deepcopy(swept.config)
    config["datasets"]["more"] = config["datasets"]["gsm-mini-train"] | {"rows": 64, "display": "64 problems"}
    config["sweep"] |= {"seeds": [0], "datasets": ["gsm-mini-train", "more"]}
    config["exhibits"] = {"figure8": config["exhibits"]["figure8"] | {"ranks": [4, 16]}}
    sweep = Sweep(config)
    record(sweep, tmp_path)
    loss, _ = drawn(sweep, tmp_path, "figure8").axes
    groups = [label.get_text().split("\n")[1:] for label in loss.get_xticklabels()]
    data = [style.words(config, "datasets", name) for name in config["sweep"]["datasets"]]
    assert groups == [[name, f"rank {rank}"] for name in data for rank in (4, 16)]


def test_tasks_of_one_dataset_have_a_panel_each(swept, tmp_path):
    config = copy.deepcopy(swept.config)
    config["tasks"]["again"] = config["tasks"]["gsm-mini"] | {"max_new_tokens": 8}
    config["sweep"]["tasks"].append("again")
    config["exhibits"] = {"figure8": config["exhibits"]["figure8"] | {"seeds": [0, 1]}}
    sweep = Sweep(config)
    record(sweep, tmp_path)
    for name in ("figure6", "figure8", "figure4"):
        labels = [f"{axes.get_title()} {axes.get_ylabel()}" for axes in drawn(sweep, tmp_path, name).axes]
        assert [
            sum(f"gsm-mini (generated)\ntask {task}" in label for label in labels) for task in ("gsm-mini", "again")
        ] == [1, 1]
