"""The studies' figures on records that the stages themselves made from a tiny model."""

import copy
import csv
import json
import shutil
from pathlib import Path

import numpy
import pandas
import pytest
from matplotlib.colors import to_hex

from pissa_repro import methods, quantizers
from pissa_repro.plan import studies
from pissa_repro.plan.exhibits import FIGURES
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import canvas, study_data, style
from pissa_repro.report.figures.reductions import draw_published
from pissa_repro.report.figures.spectra import draw_inset, draw_values
from pissa_repro.results.study import Study
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import canonical, read_json, write_json
from pissa_repro.sources.fetched import sha256
from pissa_repro.stages import fetch, study_errors, study_figure, study_spectra
from pissa_repro.starts.error import by_type

STUDIES = {
    "models": ["tiny"],
    "ranks": [2, 4],
    "rank": 2,
    "alternations": [1, 5],
    "turns": [1, 3],
    "blocks": ["nf4-b32", "nf4", "nf4-dq"],
}
MU, SIGMA = study_data.SYMBOLS["mu"], study_data.SYMBOLS["sigma"]
OVER_RANKS = ("fig2b", "fig7a", "fig14", "depth")


def sweep_of(model: Path, **changes) -> Sweep:
    """A sweep over the model in this folder; only its studies matter here."""
    fields = {"prompt": "q", "response": "a"}
    return Sweep(
        {
            "models": {"tiny": {"path": str(model), "display": "tiny (embedded)"}},
            "datasets": {"data": {"path": "t", "fields": fields}},
            "train": {"epochs": 1, "batch_size": 2, "max_length": 8, "dtype": "float32", "target_modules": ["q_proj"]},
            "tasks": {"bench": {"task": "gsm8k", "dataset": "data", "max_new_tokens": 4}},
            "sweep": {
                "models": ["tiny"], "datasets": ["data"], "cells": [{"method": "pissa", "quant": "nf4"}],
                "ranks": [2], "learning_rates": [0.1], "seeds": [0], "tasks": ["bench"],
            },
            "studies": STUDIES | changes,
        }
    )  # fmt: skip


def measured(sweep: Sweep, results: Path) -> Study:
    """Run the stages as the workflow does, in this process."""
    model, folder = results / "fetch" / "models" / "tiny.json", results / "studies" / "tiny"
    fetch.main(["--spec", canonical(sweep.model_spec("tiny")), "--out", str(model)])
    same = ["--model", str(model), "--scratch", str(results / "scratch")]
    for grid in ("ranks", "turns", "blocks"):
        out = ["--out", str(folder / f"errors_{grid}.csv"), "--record", str(folder / f"errors_{grid}.json")]
        study_errors.main(["--spec", canonical(studies.errors_spec(sweep, "tiny", grid)), *same, *out])
    spec = canonical(studies.spectra_spec(sweep, "tiny"))
    study_spectra.main(["--spec", spec, *same, "--out", str(folder / "spectra.json")])
    return Study(sweep, "tiny", results)


@pytest.fixture(scope="module")
def study(tiny_model, tmp_path_factory) -> Study:
    """The records of the tiny Llama. Do not write to them."""
    return measured(sweep_of(tiny_model), tmp_path_factory.mktemp("study"))


@pytest.fixture
def copied(study, tmp_path) -> Study:
    """The same records, to be spoilt."""
    shutil.copytree(study.results, tmp_path / "results", ignore=shutil.ignore_patterns("scratch"))
    return Study(study.sweep, "tiny", tmp_path / "results")


def drawn(name: str, study: Study):
    with style.context():
        figure = study_figure.draw(name, study)
        figure.draw_without_rendering()
    return figure


def caption(figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def record(study: Study, name: str) -> Path:
    return study.results / "studies" / "tiny" / name


def rewrite(path: Path, table: pandas.DataFrame, **changes) -> None:
    """Another table in place of one, with a record that says so."""
    table.to_csv(path, index=False)
    made = read_json(path.with_suffix(".json"))
    write_json(path.with_suffix(".json"), made | {"csv_sha256": sha256(path), **changes})


def rows(study: Study, grid: str, **point) -> list[dict[str, str]]:
    """The rows of a grid where each column has that value."""
    with open(record(study, f"errors_{grid}.csv"), newline="") as file:
        found = list(csv.DictReader(file))
    return [row for row in found if all(row[key] == str(value) for key, value in point.items())]


def mean(study: Study, grid: str, **point) -> float:
    """The average by the rule of quant_error, from the CSV."""
    return by_type({r["module"]: {"reduction": float(r["reduction"])} for r in rows(study, grid, **point)})["avg"]


def lines(axes) -> dict:
    return {line.get_label(): line for line in axes.lines}


def test_the_workflow_knows_every_figure():
    assert tuple(study_figure.FIGURES) == FIGURES


@pytest.mark.parametrize("name", FIGURES)
def test_writes_both_formats_and_the_same_bytes_again(name, study, tmp_path):
    for turn in "12":
        out = [str(tmp_path / f"{turn}.{kind}") for kind in ("svg", "png")]
        same = ["--config", canonical(study.sweep.config), "--results", str(study.results), "--model", "tiny"]
        study_figure.main([*same, "--figure", name, "--out", *out])
    for kind, start in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        first = (tmp_path / f"1.{kind}").read_bytes()
        assert first == (tmp_path / f"2.{kind}").read_bytes() and first.startswith(start)


@pytest.mark.parametrize("name", FIGURES)
def test_titles_and_captions_name_the_model_its_modules_and_whose_the_published_numbers_are(name, study):
    figure = drawn(name, study)
    text = caption(figure)
    assert figure.get_suptitle().endswith(": tiny (embedded)") and text.startswith("tiny (embedded); ")
    count = {"fig7a": 2, "fig14": 12}.get(name, 14)
    assert f"{count} modules" in text
    text += "".join(axes.get_title() for axes in figure.axes)
    assert any(words in text for words in ("another model", "of other models", "the paper prints none"))


def test_figure_2b_has_the_bars_of_the_paper_beside_ours(study):
    ours, eight, seventy = drawn("fig2b", study).axes
    points = [("loftq", 2, 1), ("pissa", 2, 1), ("loftq", 2, 5), ("pissa", 2, 5), ("pissa", 4, 5)]
    expected = [mean(study, "ranks", method=m, rank=r, alternations=t) for m, r, t in points]
    assert [bar.get_height() for bar in ours.patches] == pytest.approx([0, *expected])
    assert [bar.get_height() for bar in eight.patches] == [0, 5.3, 7.7, 11.2, 14.3, 22.9]
    assert [bar.get_height() for bar in seventy.patches] == [0, 4.3, 8.6, 8.5, 13.4, 20.3]
    names = ["QLoRA", "LoftQ r 64 T 1", "QPiSSA r 64 T 1", "LoftQ r 64 T 5", "QPiSSA r 64 T 5", "QPiSSA r 128 T 5"]
    assert [" ".join(label.get_text().split()) for label in eight.get_xticklabels()] == names
    assert eight.get_title().startswith("published, LLaMA-3-8B") and "LLaMA-3-70B" in seventy.get_title()
    assert not any(bar.get_hatch() for bar in ours.patches) and all(bar.get_hatch() for bar in eight.patches)


def test_figure_2b_without_a_larger_rank_has_no_last_bar(tiny_model, study):
    wide = Study(sweep_of(tiny_model, rank=4), "tiny", study.results)
    assert len(drawn("fig2b", wide).axes[0].patches) == 5
    other = study_data.averages(study_data.errors(study, "ranks"))
    elsewhere = Study(sweep_of(tiny_model, rank=3), "tiny", study.results)
    assert study_data.rank_of(elsewhere, other) == 4  # 3 was not measured over ranks


def test_figure_7a_is_the_first_type_with_published_points(study):
    (axes,) = drawn("fig7a", study).axes
    found = lines(axes)
    assert axes.get_title() == "q_proj"
    for method in ("loftq", "pissa"):
        for turn, dash in ((1, "-"), (5, "--")):
            line = found[f"{methods.display(method, 'nf4')}, T = {turn}"]
            expected = [mean(study, "ranks", method=method, type="q_proj", rank=r, alternations=turn) for r in (2, 4)]
            numpy.testing.assert_array_equal(line.get_xdata(), [2, 4])
            numpy.testing.assert_allclose(line.get_ydata(), expected)
            assert line.get_linestyle() == dash
    digitised = found["QPiSSA, T = 1, published\nLLaMA-2-7B (digitised)"]
    assert list(digitised.get_xdata()) == [1, 2, 4, 8, 16, 32, 64, 128] and digitised.get_ydata()[-1] == 18.97
    assert digitised.get_fillstyle() == "none" and digitised.get_linestyle() == "None"
    assert list(found["LoftQ, T = 5, published\nLLaMA-2-7B"].get_ydata()) == [16.5]  # Table 8
    assert set(found["QLoRA: 0 by definition"].get_ydata()) == {0}


def test_figure_14_has_a_panel_for_each_other_type(study):
    axes = drawn("fig14", study).axes
    assert [one.get_title() for one in axes] == ["k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    theirs = [27.2, 18.7, 18.6, 15.8, 13.6, 13.6]
    for one, published in zip(axes, theirs, strict=True):
        found, kind = lines(one), one.get_title()
        ours = [mean(study, "ranks", method="pissa", type=kind, rank=rank, alternations=5) for rank in (2, 4)]
        numpy.testing.assert_allclose(found["QPiSSA, T = 5"].get_ydata(), ours)
        assert list(found["QPiSSA, T = 5, published\nLLaMA-2-7B"].get_ydata()) == [published]


def test_a_single_type_is_shown_by_figure_14_too(study, copied):
    sweep = sweep_of(study.sweep.config["models"]["tiny"]["path"], target_modules=["q_proj"])
    path, table = record(copied, "errors_ranks.csv"), pandas.read_csv(record(copied, "errors_ranks.csv"))
    rewrite(path, table[table["type"] == "q_proj"], spec=studies.errors_spec(sweep, "tiny", "ranks"))
    assert [one.get_title() for one in drawn("fig14", Study(sweep, "tiny", copied.results)).axes] == ["q_proj"]


def test_target_modules_of_the_config_set_the_order_of_types(study):
    table = study_data.errors(study, "ranks")
    targets = ["v_proj", "mlp.up_proj"]
    sweep = sweep_of(study.sweep.config["models"]["tiny"]["path"], target_modules=targets)
    here = table[table["type"].isin(["v_proj", "up_proj"])]
    assert study_data.kinds(Study(sweep, "tiny", study.results), here) == ["v_proj", "up_proj"]


def test_alternations_are_averages_with_published_ones_in_sight(study):
    (axes,) = drawn("alternations", study).axes
    found = lines(axes)
    for method in ("loftq", "pissa"):
        expected = [mean(study, "turns", method=method, alternations=turns) for turns in (1, 3)]
        numpy.testing.assert_allclose(found[f"{methods.display(method, 'nf4')}, r = 2"].get_ydata(), expected)
    theirs = found["QPiSSA, r = 128, published\nLLaMA-2-7B"]
    assert (list(theirs.get_xdata()), list(theirs.get_ydata())) == ([1, 5], [10.7, 19.4])


@pytest.mark.parametrize("name", ["fig3", "fig7a", "fig10", "fig14", "alternations", "blocks"])
def test_no_point_lies_outside_the_axes(name, study):
    for axes in drawn(name, study).axes:
        for line in axes.lines:
            points = axes.transData.transform(numpy.column_stack(line.get_data()))
            box = axes.get_window_extent().padded(0.01)
            assert all(box.contains(*point) for point in points), line.get_label()


def test_the_axes_reach_to_published_points(study):
    points = study_data.published_reductions("llama-2-7b", "q_proj")
    with style.context():
        figure, (axes,) = canvas.panels(1, 3, 2.4)
        draw_published(axes, study, points, "rank", "alternations", "T = {}", apart=7)
        figure.draw_without_rendering()
    assert axes.get_ylim()[0] < 0.09 and axes.get_ylim()[1] > 27.9 and axes.get_xlim()[1] > 128


@pytest.mark.parametrize("law", [lambda i: 1 / i, lambda i: 101 - i, lambda i: 0 * i + 1])
def test_no_singular_value_is_behind_the_inset(law):
    values = law(numpy.arange(1, 101)).astype(float).tolist()
    with style.context():
        figure, (axes, other) = canvas.panels(2, 3, 2.4)
        for one in (axes, other):
            draw_values(one, {"singular_values": {"W": values}}, "W", "W", "black")
        draw_inset(axes, values)
        figure.draw_without_rendering()
    (inset,) = axes.child_axes
    points = axes.transData.transform(numpy.column_stack(axes.lines[0].get_data()))
    assert not [point for point in points if inset.get_tightbbox().contains(*point)]


def test_blocks_show_reductions_and_the_plain_error_against_nf4(study):
    left, right = drawn("blocks", study).axes
    for kind, names in (("nf4", {32: "nf4-b32", 64: "nf4"}), ("nf4-dq", {64: "nf4-dq"})):
        line = lines(left)[f"QPiSSA, {kind}"]
        expected = [mean(study, "blocks", method="pissa", quant=quant) for quant in names.values()]
        assert list(line.get_xdata()) == list(names)
        numpy.testing.assert_allclose(line.get_ydata(), expected)
    plain = {
        (row["quant"], row["module"]): float(row["nuclear_plain"]) for row in rows(study, "blocks", method="pissa")
    }
    ratios = [value / plain["nf4", module] for (quant, module), value in plain.items() if quant == "nf4-b32"]
    numpy.testing.assert_allclose(lines(right)["QLoRA, nf4"].get_ydata(), [numpy.mean(ratios), 1])
    assert numpy.mean(ratios) < 1  # two layers of each type: the mean over types is the mean over modules


def test_block_sizes_are_those_of_the_quantizers():
    points = study_data.with_blocks(pandas.DataFrame({"quant": quantizers.in_blocks()}))
    for row in points.itertuples():
        known = quantizers.find(row.quant).options
        assert row.block == known["blocksize"]
        assert row.kind == row.quant.partition("-")[0] + ("-dq" if known["double"] else "")
    with pytest.raises(UserError, match="int8 has no block size"):
        study_data.with_blocks(pandas.DataFrame({"quant": ["int8"]}))


def test_depth_is_a_map_a_method_with_its_numbers(study):
    figure = drawn("depth", study)
    loftq, pissa = (axes for axes in figure.axes if axes.get_title())
    kinds = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    for axes, method in ((loftq, "loftq"), (pissa, "pissa")):
        point = {"method": method, "rank": 2, "alternations": 5}
        expected = [[mean(study, "ranks", layer=i, type=kind, **point) for kind in kinds] for i in (0, 1)]
        numpy.testing.assert_allclose(axes.collections[0].get_array(), expected)
        assert [text.get_text() for text in axes.texts] == [f"{value:.1f}" for row in expected for value in row]
        low, high = axes.collections[0].get_clim()
        assert low <= numpy.min(expected) and high >= numpy.max(expected)
        assert axes.get_ylim() == (2, 0)  # the first layer at the top
    text = caption(figure)
    assert "QPiSSA, rank 128: q_proj 27.9, k_proj 27.2" in text and "LoftQ, rank 128: q_proj 16.5" in text


def test_figure_3_shows_the_recorded_values_on_shared_axes(study):
    found = read_json(record(study, "spectra.json"))
    figure = drawn("fig3", study)
    a, b, c, d, e, f = figure.axes
    for axes, key in ((a, "W"), (b, "residual"), (d, "error_qlora"), (e, "error_pissa")):
        numpy.testing.assert_array_equal(axes.lines[0].get_ydata(), found["singular_values"][key])
    for one, other in ((a, b), (d, e), (c, f)):
        assert one.get_ylim() == other.get_ylim()
    assert c.get_xlim() == f.get_xlim()
    (inset,) = a.child_axes
    numpy.testing.assert_array_equal(inset.lines[0].get_ydata(), found["singular_values"]["W"][:10])
    for axes, key in ((c, "W"), (f, "residual")):
        facts = found["distributions"][key]
        width = 2 * facts["limit"] / len(facts["counts"])
        numpy.testing.assert_allclose(axes.patches[0].get_data().values * width * facts["n"], facts["counts"])
        assert study_data.digits(facts["std"]) in axes.texts[0].get_text()
        peak = 1 / (facts["std"] * (2 * numpy.pi) ** 0.5)
        assert max(axes.lines[0].get_ydata()) == pytest.approx(peak, rel=0.01)
    assert f"{MU} -3.02e-06, {SIGMA} 0.0135 → {MU} -9.98e-07, {SIGMA} 0.0034" in caption(figure)


def test_figure_9_has_both_distributions_and_the_published_ones(study):
    found = read_json(record(study, "spectra.json"))["all_modules"]
    figure = drawn("fig9", study)
    patches = figure.axes[0].patches
    for patch, facts in zip(patches, (found["W"], found["residual"]), strict=True):
        width = 2 * facts["limit"] / len(facts["counts"])
        numpy.testing.assert_allclose(patch.get_data().values * width * facts["n"], facts["counts"])
        words = (f"|{MU}| = {study_data.digits(abs(facts['mean']))}", f"{SIGMA} = {study_data.digits(facts['std'])}")
        assert all(word in patch.get_label() for word in words)
    for sigmas in ((0.0193, 0.0172), (0.0033, 0.0029), (0.0045, 0.004), (0.0139, 0.0118)):
        assert all(f"{SIGMA} {sigma}" in caption(figure) for sigma in sigmas)


def test_figure_10_has_six_spectra(study):
    found = read_json(record(study, "spectra.json"))["singular_values"]
    axes = drawn("fig10", study).axes
    for one, key in zip(axes, ("W", "quantized", "residual", "error_qlora", "error_loftq", "error_pissa"), strict=True):
        numpy.testing.assert_array_equal(one.lines[0].get_ydata(), found[key])
    titles = [one.get_title().split(";")[0] for one in axes[3:]]
    assert titles == ["error of QLoRA", "error of LoftQ", "error of QPiSSA"]


def test_figure_11_has_the_recorded_fits_and_the_published_ones(study):
    found = read_json(record(study, "spectra.json"))["student_t"]
    figure = drawn("fig11", study)
    for axes, key in zip(figure.axes, ("W", "residual"), strict=True):
        expected = [f"{name} = {study_data.digits(found[key][name])}" for name in ("df", "loc", "scale")]
        assert axes.texts[0].get_text().split("\n") == expected
    assert "df 1.9, loc -1.2e-06, scale 0.0052 → df 2.01, loc -5.6e-05, scale 0.002" in caption(figure)


def test_a_further_method_appears_by_itself(tiny_model, tmp_path, monkeypatch):
    """A method file that the figures do not know; here one that is made to take alternations, of which it has one."""
    monkeypatch.setattr(methods.load("milora"), "QUANTIZED_OPTIONS", {"alternations": 1}, raising=False)
    study = measured(sweep_of(tiny_model, methods=["loftq", "pissa", "milora"], ranks=[2]), tmp_path)
    found = lines(drawn("fig7a", study).axes[0])
    expected = mean(study, "ranks", method="milora", type="q_proj", alternations=1)
    assert list(found["QMiLoRA, T = 1"].get_ydata()) == pytest.approx([expected])
    assert len({to_hex(found[f"{name}, T = 1"].get_color()) for name in ("LoftQ", "QPiSSA", "QMiLoRA")}) == 3
    assert len(drawn("fig2b", study).axes[0].patches) == 7
    assert "QMiLoRA" in [axes.get_title() for axes in drawn("depth", study).axes]
    assert "QMiLoRA, r = 2" in lines(drawn("alternations", study).axes[0])


def test_any_model_gpt2(tiny_gpt2, tmp_path):
    """Four types, none of them the paper's: there is nothing published beside."""
    study = measured(sweep_of(tiny_gpt2["saved"], methods=["pissa"], alternations=[1]), tmp_path)
    for name in FIGURES:
        drawn(name, study)
    figure = drawn("fig14", study)
    assert len(figure.axes) == 3 and "no published numbers" in caption(figure)
    figure = drawn("depth", study)
    assert len(figure.axes[0].texts) == 8 and "no published numbers" in caption(figure)


def test_a_model_of_the_paper_has_its_own_numbers_beside(study):
    config = copy.deepcopy(study.sweep.config)
    config["models"]["tiny"]["paper"] = "llama-3-8b"
    own = Study(Sweep(config), "tiny", study.results)
    found = lines(drawn("fig7a", own).axes[0])
    theirs = found["QPiSSA, T = 5, published\nLLaMA-3-8B"]
    assert (list(theirs.get_xdata()), list(theirs.get_ydata())) == ([64, 128], [17.1, 26.3])
    assert "another model" not in caption(drawn("fig7a", own))
    assert "LLaMA-3-8B (this model)" in caption(drawn("fig9", own))


def test_colours_are_those_of_the_sweep(study):
    (look,) = style.looks(study.sweep).values()
    assert study_data.look(study, "pissa").colour == look.colour


@pytest.mark.parametrize("name", FIGURES)
def test_a_missing_record_is_named(name, copied):
    for path in (copied.results / "studies" / "tiny").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no such record"):
        drawn(name, copied)


@pytest.mark.parametrize("name", OVER_RANKS)
def test_a_missing_table_column_row_or_number_is_refused(name, copied):
    path = record(copied, "errors_ranks.csv")
    table = pandas.read_csv(path)
    spoilt = {
        "unknown column 'reduction'": table.drop(columns="reduction"),
        "'reduction' is not a finite number": table.assign(reduction=[numpy.nan, *table["reduction"][1:]]),
        "'rank' is not a finite number": table.assign(rank=["inf", *table["rank"][1:]]),
        "not one row for each of 14 modules": table.drop(index=3),
        "has no rows": table[:0],
    }
    for words, rest in spoilt.items():
        rewrite(path, rest)
        with pytest.raises(UserError, match=words):
            drawn(name, copied)
    path.unlink()
    with pytest.raises(UserError, match="no such record"):
        drawn(name, copied)


def test_a_spoilt_spectrum_is_refused(copied):
    path = record(copied, "spectra.json")
    found = read_json(path)
    write_json(path, {key: value for key, value in found.items() if key != "student_t"})
    with pytest.raises(UserError, match="unknown entry 'student_t'"):
        drawn("fig11", copied)
    found["singular_values"]["W"][0] = float("nan")
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match="'singular_values' holds what is not a finite number"):
        drawn("fig3", copied)


def test_records_of_another_config_are_refused(study):
    other = Study(sweep_of(study.sweep.config["models"]["tiny"]["path"], ranks=[2, 8]), "tiny", study.results)
    with pytest.raises(UserError, match="made from another config"):
        drawn("fig14", other)


def test_unknown_figures_and_models_are_named_with_the_choices(study):
    with pytest.raises(UserError, match="unknown figure 'fig7'.*Choices: alternations, blocks"):
        drawn("fig7", study)
    with pytest.raises(UserError, match="unknown model 'tinny'. Did you mean 'tiny'"):
        drawn("fig3", Study(study.sweep, "tinny", study.results))
