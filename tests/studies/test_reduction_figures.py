"""The figures of error reductions, on records that the stages made from a tiny model."""

import numpy
import pandas
import pytest
from studied import caption, drawn, lines, mean, record, rewrite, rows, sweep_of

from pissa_repro import methods, quantizers
from pissa_repro.plan import studies
from pissa_repro.report.figures import canvas, study_data, study_published, style
from pissa_repro.report.figures.reductions import Lines, draw_published
from pissa_repro.results.study import Study
from pissa_repro.runtime.errors import UserError

OVER_RANKS = ("figure2b", "figure7a", "figure14", "depth")


def test_figure_2b_has_the_bars_of_the_paper_beside_ours(study):
    ours, eight, seventy = drawn("figure2b", study).axes
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
    assert len(drawn("figure2b", wide).axes[0].patches) == 5
    other = study_data.averages(study_data.errors(study, "ranks"))
    elsewhere = Study(sweep_of(tiny_model, rank=3), "tiny", study.results)
    assert study_data.rank_of(elsewhere, other) == 4  # 3 was not measured over ranks


def test_figure_7a_is_the_first_type_with_published_points(study):
    (axes,) = drawn("figure7a", study).axes
    found = lines(axes)
    assert axes.get_title() == "q_proj"
    for method in ("loftq", "pissa"):
        for count, dash in ((1, "-"), (5, "--")):
            line = found[f"{methods.display(method, 'nf4')}, T = {count}"]
            expected = [mean(study, "ranks", method=method, type="q_proj", rank=r, alternations=count) for r in (2, 4)]
            numpy.testing.assert_array_equal(line.get_xdata(), [2, 4])
            numpy.testing.assert_allclose(line.get_ydata(), expected)
            assert line.get_linestyle() == dash
    digitised = found["QPiSSA, T = 1, published\nLLaMA-2-7B (digitised)"]
    assert list(digitised.get_xdata()) == [1, 2, 4, 8, 16, 32, 64, 128] and digitised.get_ydata()[-1] == 18.97
    assert digitised.get_fillstyle() == "none" and digitised.get_linestyle() == "None"
    assert list(found["LoftQ, T = 5, published\nLLaMA-2-7B"].get_ydata()) == [16.5]  # Table 8
    assert set(found["QLoRA: 0 by definition"].get_ydata()) == {0}


def test_figure_14_has_a_panel_for_each_other_type(study):
    axes = drawn("figure14", study).axes
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
    assert [one.get_title() for one in drawn("figure14", Study(sweep, "tiny", copied.results)).axes] == ["q_proj"]


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
        expected = [mean(study, "alternations", method=method, alternations=count) for count in (1, 3)]
        numpy.testing.assert_allclose(found[f"{methods.display(method, 'nf4')}, r = 2"].get_ydata(), expected)
    theirs = found["QPiSSA, r = 128, published\nLLaMA-2-7B"]
    assert (list(theirs.get_xdata()), list(theirs.get_ydata())) == ([1, 5], [10.7, 19.4])


def test_the_axes_reach_to_published_points(study):
    points = study_published.reductions("llama-2-7b", "q_proj")
    with style.context():
        figure, (axes,) = canvas.Sheet(1).panels(1, 3, 2.4)
        draw_published(axes, points, Lines("rank", "alternations", "T = {}"), apart=7)
        figure.draw_without_rendering()
    assert axes.get_ylim()[0] < 0.09 and axes.get_ylim()[1] > 27.9 and axes.get_xlim()[1] > 128


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
    others = {}  # what is quantized otherwise than by the block size has a line of its own
    for row in points.itertuples():
        file, _, known = quantizers.find(row.quant)
        assert row.block == known["blocksize"]
        others.setdefault(row.kind, []).append((file, {**known, "blocksize": 0}))
    assert {"nf4", "nf4-dq"} <= others.keys() and not points.duplicated(["kind", "block"]).any()
    assert all(found == found[:1] * len(found) for found in others.values())
    assert len({str(found[0]) for found in others.values()}) == len(others)
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


def test_plain_quantization_is_shown_against_the_same_one_in_any_order():
    """Case 4: without nf4 the first of the config was what the others were divided by."""
    for quants in (["nf4-b32", "nf4-dq", "int8"], ["nf4-dq", "int8", "nf4-b32"]):
        assert study_data.standard(pandas.DataFrame({"quant": quants})) == "int8"
