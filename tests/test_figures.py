"""Figures from small hand-written records: the plotted numbers, the look, the errors, the same bytes."""

import copy

import numpy
import pytest
from figured import drawn, made
from matplotlib.colors import to_hex

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import looks
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import canonical
from pissa_repro.stages import figure as stage_figure

PLACES = {"figure4a": "paper/figure4a", "figure4b": "paper/figure4b", "accuracy": "extra/accuracy"}


def run(name, sweep, tmp_path, *out):
    arguments = ["--config", canonical(sweep.config), "--results", tmp_path, "--place", PLACES.get(name, name)]
    stage_figure.main([str(word) for word in (*arguments, "--out", *out)])


@pytest.mark.parametrize("name", PLACES)
def test_writes_both_formats_and_the_same_svg_again(name, tmp_path):
    sweep = made(tmp_path)
    run(name, sweep, tmp_path, tmp_path / "1.svg", tmp_path / "1.png")
    run(name, sweep, tmp_path, tmp_path / "2.svg")
    svg = (tmp_path / "1.svg").read_bytes()
    assert svg == (tmp_path / "2.svg").read_bytes() and b"<dc:date>" not in svg
    assert (tmp_path / "1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "factor"), [("figure4a", 1), ("figure4b", 2)])
def test_lines_are_means_over_seeds(name, factor, tmp_path):
    figure = drawn(name, made(tmp_path), tmp_path)
    steps = numpy.arange(1, 37)
    axes = figure.axes[0]
    (inset,) = axes.child_axes
    for number, (line, first) in enumerate(zip(axes.lines, inset.lines, strict=True)):
        seeds = [5 / steps * (factor + (2 * number + seed) / 10) for seed in (0, 1)]
        numpy.testing.assert_allclose(line.get_xdata(), steps)
        numpy.testing.assert_allclose(line.get_ydata(), numpy.mean(seeds, axis=0))
        numpy.testing.assert_allclose(first.get_ydata(), numpy.mean(seeds, axis=0)[:6])
        band = axes.collections[number].get_paths()[0].vertices[:, 1]
        assert band.max() == pytest.approx(seeds[1].max()) and band.min() == pytest.approx(seeds[0].min())


def test_a_long_run_is_drawn_as_means_of_blocks_and_says_so(tmp_path):
    figure = drawn("figure4a", made(tmp_path, steps=241, seeds=[0]), tmp_path)
    values = 5 / numpy.arange(1, 242)
    expected = [*values[:240].reshape(-1, 2).mean(axis=1), values[240]]
    numpy.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), expected)
    assert "each point the mean of 2 steps" in " ".join(figure.get_supxlabel().split())
    assert len(figure.axes[0].child_axes[0].lines[0].get_ydata()) == 40


@pytest.mark.parametrize("name", ["figure4a", "figure4b"])
@pytest.mark.parametrize("curve", [lambda t: 5 / t, lambda t: t, lambda t: 1 + (t == 30)])
def test_no_curve_is_behind_the_inset(name, curve, tmp_path):
    figure = drawn(name, made(tmp_path, curve=curve, ranks=[2, 4]), tmp_path)
    for axes in figure.axes:
        (inset,) = axes.child_axes
        box = inset.get_tightbbox()
        bands = [path.vertices for band in axes.collections for path in band.get_paths()]
        points = axes.transData.transform(numpy.concatenate(bands))
        assert not [xy for xy in points if box.contains(*xy)]


def test_a_short_run_has_no_inset(tmp_path):
    figure = drawn("figure4a", made(tmp_path, steps=10), tmp_path)
    assert not figure.axes[0].child_axes and "inset" not in figure.get_supxlabel()


def test_bars_are_means_in_percent_with_both_errors(tmp_path):
    axes = drawn("accuracy", made(tmp_path), tmp_path).axes[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([25, 45, 65])
    assert [text.get_text() for text in axes.texts] == ["25.0", "45.0", "65.0"]
    errors = {c.get_label().split("\n")[0]: c for c in axes.containers if not c.get_label().startswith("_")}
    spread = numpy.ptp(errors["standard deviation"].lines[2][0].get_segments()[0][:, 1]) / 2
    items = numpy.ptp(errors["standard error over"].lines[2][0].get_segments()[0][:, 1]) / 2
    assert spread == pytest.approx(numpy.std([60, 70], ddof=1))
    assert items == pytest.approx(100 * numpy.mean([0.014, 0.015]))
    assert "300 test items" in errors["standard error over"].get_label()


def with_text(tmp_path, stderr="0.02", n=40, tasks=("bench", "text")):
    """The fixture's sweep with a second task, a text's nats per token: 2.1, 2.2, ... by cell."""
    sweep = made(tmp_path)
    config = copy.deepcopy(sweep.config)
    config["datasets"]["text"] = {"path": "t", "fields": {"text": "text"}, "display": "a text"}
    config["tasks"]["text"] = {"task": "perplexity", "dataset": "text", "max_new_tokens": 1}
    config["sweep"]["tasks"] = list(tasks)
    rows = [f"{cell},text,paper,{2.1 + number / 10},{stderr},{n}" for number, cell in enumerate(sweep.cells)]
    rows += [f"{cell},text,perplexity,8,,{n}" for cell in sweep.cells]
    with open(paths.scores(tmp_path), "a", encoding="utf-8") as file:
        file.write("\n".join(rows) + "\n")
    return Sweep(config)


def test_a_task_in_another_unit_is_not_in_percent(tmp_path):
    figure = drawn("accuracy", with_text(tmp_path, tasks=["text"]), tmp_path)
    (axes,) = figure.axes
    assert figure.get_suptitle() == "Score: model A, a text"
    assert axes.get_ylabel() == "score (nats per token; lower is better)"
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([2.15, 2.35, 2.55])
    assert [text.get_text() for text in axes.texts] == ["2.1500", "2.3500", "2.5500"]
    assert 2.6 < axes.get_ylim()[1] < 3.2


def test_tasks_of_two_units_share_no_axis(tmp_path):
    figure = drawn("accuracy", with_text(tmp_path), tmp_path)
    bench, text = figure.axes
    assert figure.get_suptitle() == "Score: model A"
    assert (bench.get_title(), bench.get_ylabel()) == ("bench (generated)", "accuracy (%)")
    assert (text.get_title(), text.get_ylabel()) == ("a text", "score (nats per token; lower is better)")
    assert [bar.get_height() for bar in bench.patches] == pytest.approx([25, 45, 65])
    assert text.get_ylim()[1] < 4 < 65 < bench.get_ylim()[1]


def test_one_item_has_no_error_of_items(tmp_path):
    (axes,) = drawn("accuracy", with_text(tmp_path, stderr="", n=1, tasks=["text"]), tmp_path).axes
    labels = [label.split("\n")[0] for label in axes.get_legend_handles_labels()[1]]
    assert labels == ["one seed", "standard deviation"] and len(axes.patches) == 3


def test_one_seed_has_no_spread(tmp_path):
    axes = drawn("accuracy", made(tmp_path, seeds=[3]), tmp_path).axes[0]
    assert [label.split("\n")[0] for label in axes.get_legend_handles_labels()[1]] == ["standard error over"]


def test_titles_name_model_and_benchmark(tmp_path):
    sweep = made(tmp_path)
    assert drawn("accuracy", sweep, tmp_path).get_suptitle() == "Accuracy: model A, bench (generated)"
    assert drawn("figure4a", sweep, tmp_path).get_suptitle() == "Training loss: model A, trained on bench (generated)"


def test_panels_for_every_model_and_rank(tmp_path):
    figure = drawn("figure4a", made(tmp_path, models=["a", "b"], ranks=[2, 4, 8]), tmp_path)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"model {model}, rank {rank}" for model in "AB" for rank in (2, 4, 8)]
    assert all(len(axes.lines) == 3 for axes in figure.axes)  # full FT, which has no rank, is in each


@pytest.mark.parametrize("name", PLACES)
def test_a_panel_for_every_rate_beside_a_common_rate(name, tmp_path):
    sweep = made(tmp_path, learning_rates=[0.01, 0.03], common_rate=0.03)
    figure = drawn(name, sweep, tmp_path)
    assert [axes.get_title() for axes in figure.axes] == ["learning rate 0.01", "learning rate 0.03"]


def test_colour_is_the_method_and_line_the_quantization(tmp_path):
    sweep = made(tmp_path)
    full, lora, qlora = drawn("figure4a", sweep, tmp_path).axes[0].lines
    assert (full.get_color(), lora.get_color()) == looks.COLOURS[:2]
    assert lora.get_color() == qlora.get_color() and lora.get_linestyle() != qlora.get_linestyle()
    assert [line.get_label() for line in (full, lora, qlora)] == ["full FT", "LoRA", "QLoRA"]
    bars = drawn("accuracy", sweep, tmp_path).axes[0].patches
    assert [to_hex(bar.get_edgecolor()).upper() for bar in bars] == [line.get_color() for line in (full, lora, qlora)]
    assert [bool(bar.get_hatch()) for bar in bars] == [False, False, True]


def test_the_caption_gives_the_reason_of_an_override(tmp_path):
    sweep = made(tmp_path)
    why = "full FT needs a smaller step"
    override = {"where": {"method": "full"}, "set": {"max_grad_norm": 0.5}, "why": why}
    figure = drawn("figure4a", Sweep(sweep.config | {"overrides": [override]}), tmp_path)
    assert f"full FT: {why}" in " ".join(figure.get_supxlabel().split())


def test_an_unknown_figure_is_named_with_the_choices(tmp_path):
    with pytest.raises(UserError, match="unknown figure 'paper/figure4c'. Did you mean 'paper/figure4"):
        run("paper/figure4c", made(tmp_path), tmp_path, tmp_path / "none.svg")


def test_an_unknown_format_is_named_with_the_choices(tmp_path):
    with pytest.raises(UserError, match="unknown format 'gif'.*Choices: pdf, png, svg"):
        run("figure4a", made(tmp_path), tmp_path, tmp_path / "loss.gif")


def test_a_missing_record_is_named_and_its_seed_left_out(tmp_path):
    sweep = made(tmp_path)
    paths.cell(list(sweep.cells)[-1], tmp_path).steps.unlink()
    figure = drawn("figure4a", sweep, tmp_path)
    assert "missing, without a record: QLoRA rank 4 seed 1" in " ".join(figure.get_supxlabel().split())
    numpy.testing.assert_allclose(figure.axes[0].lines[2].get_ydata(), 5 / numpy.arange(1, 37) * 1.4)


def test_without_any_record_there_is_no_figure_and_no_file(tmp_path):
    sweep = made(tmp_path)
    for name in sweep.cells:
        paths.cell(name, tmp_path).steps.unlink()
    with pytest.raises(UserError, match="no such record of any of 6 cells"):
        run("figure4a", sweep, tmp_path, tmp_path / "loss.svg")
    assert not list(tmp_path.glob("*loss*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(",bench,paper,0.7,", ",bench,exact,0.7,"), "0 rows with cell .*-s1"),
        (lambda text: text + text.splitlines()[1] + "\n", "2 rows with cell .*-s0"),
        (lambda text: text.replace(",paper,0.7,", ",paper,,"), "line 12: 'value' is not a finite number"),
        (lambda text: text.replace("stderr", "error"), "unknown column 'stderr'. Did you mean 'error'"),
        (lambda text: text.splitlines()[0], "has no rows"),
        (lambda text: "", "not a complete record"),
    ],
)
def test_scores_with_holes_are_refused(change, message, tmp_path):
    sweep = made(tmp_path)
    scores = paths.scores(tmp_path)
    scores.write_text(change(scores.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        drawn("accuracy", sweep, tmp_path)


def test_seeds_with_other_steps_are_refused(tmp_path):
    sweep = made(tmp_path)
    record = paths.cell(list(sweep.cells)[1], tmp_path).steps
    record.write_text("\n".join(record.read_text(encoding="utf-8").splitlines()[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="no mean over seeds is possible"):
        drawn("figure4a", sweep, tmp_path)
