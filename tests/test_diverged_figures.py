"""Figures mark what diverged, and no mean goes on over the seeds that are left."""

import numpy
import pytest
from figured import drawn, made

from pissa_repro.results.curves import read_curve
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError

AXES = {"seeds": [0, 1], "learning_rates": [0.01]}


def lost(sweep, tmp_path, method="lora", seed=1, at=12):
    """Let a cell's record of steps and its score end as those of a training that diverged."""
    cell = next(c for c in sweep.cells.values() if (c.method, c.quant, c.seed) == (method, "none", seed))
    path = paths.cell(cell.name, tmp_path).steps
    kept = path.read_text(encoding="utf-8").splitlines()[:at]
    path.write_text("\n".join([*kept, f"{at},nan,0.01,inf"]) + "\n", encoding="utf-8")
    scores = paths.scores(tmp_path)
    rows = [f"{row}," for row in scores.read_text(encoding="utf-8").splitlines()]
    rows[0] += "diverged"
    rows = [f"{cell.name},bench,paper,,,,{at}" if row.startswith(f"{cell.name},bench,paper") else row for row in rows]
    scores.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return cell


@pytest.mark.parametrize("column", ["loss", "grad_norm"])
def test_a_curve_ends_where_a_seed_diverged(tmp_path, column):
    sweep = made(tmp_path, **AXES)
    cell = lost(sweep, tmp_path)
    cells = [one for one in sweep.cells.values() if (one.method, one.quant) == (cell.method, cell.quant)]
    curve = read_curve(tmp_path, cells, column)
    assert curve.values.shape == (2, 36) and numpy.isfinite(curve.values[0]).all()
    assert numpy.isfinite(curve.values[1, :11]).all() and numpy.isnan(curve.values[1, 11:]).all()


@pytest.mark.parametrize("name", ["figure4a", "figure4b"])
def test_a_cross_stands_at_the_top_where_it_diverged(tmp_path, name):
    sweep = made(tmp_path, **AXES)
    lost(sweep, tmp_path)
    figure = drawn(name, sweep, tmp_path)
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [12]
    assert "a seed diverged there" in " ".join(figure.get_supxlabel().split())
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == "LoRA")
    assert numpy.isnan(line.get_ydata()[11:]).all() and numpy.isfinite(line.get_ydata()[:11]).all()


def test_without_one_there_is_no_mark(tmp_path):
    figure = drawn("figure4a", made(tmp_path, **AXES), tmp_path)
    assert not any(line.get_marker() == "x" for line in figure.axes[0].lines)
    assert "diverged" not in figure.get_supxlabel()


def test_a_value_that_is_no_number_elsewhere_is_refused(tmp_path):
    sweep = made(tmp_path, **AXES)
    cell = lost(sweep, tmp_path)
    path = paths.cell(cell.name, tmp_path).steps
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:5], "5,nan,0.01,1", *lines[6:]]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 6: 'loss' is not a finite number"):
        read_curve(tmp_path, [cell], "loss")


@pytest.mark.parametrize("everything", [False, True])
def test_a_bar_says_how_many_diverged(tmp_path, everything):
    sweep = made(tmp_path, **AXES)
    for seed in (0, 1) if everything else (1,):
        lost(sweep, tmp_path, seed=seed)
    figure = drawn("accuracy", sweep, tmp_path)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert f"diverged ({2 if everything else 1} of 2)" in words and len(figure.axes[0].patches) == 2
