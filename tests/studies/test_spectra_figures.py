"""The figures of singular values and of distributions, on records that the stages made from a tiny model."""

import json

import numpy
import pytest
from studied import caption, drawn, record

from pissa_repro.report.figures import canvas, study_data, style
from pissa_repro.report.figures.spectra import draw_inset, draw_values
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json, write_json

MU, SIGMA = study_data.SYMBOLS["mu"], study_data.SYMBOLS["sigma"]


def test_figure_3_shows_the_recorded_values_on_shared_axes(study):
    found = read_json(record(study, "spectra.json"))
    figure = drawn("figure3", study)
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
    figure = drawn("figure9", study)
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
    axes = drawn("figure10", study).axes
    for one, key in zip(axes, ("W", "quantized", "residual", "error_qlora", "error_loftq", "error_pissa"), strict=True):
        numpy.testing.assert_array_equal(one.lines[0].get_ydata(), found[key])
    titles = [one.get_title().split(";")[0] for one in axes[3:]]
    assert titles == ["error of QLoRA", "error of LoftQ", "error of QPiSSA"]


def test_figure_11_has_the_recorded_fits_and_the_published_ones(study):
    found = read_json(record(study, "spectra.json"))["student_t"]
    figure = drawn("figure11", study)
    for axes, key in zip(figure.axes, ("W", "residual"), strict=True):
        expected = [f"{name} = {study_data.digits(found[key][name])}" for name in ("df", "loc", "scale")]
        assert axes.texts[0].get_text().split("\n") == expected
    assert "df 1.9, loc -1.2e-06, scale 0.0052 → df 2.01, loc -5.6e-05, scale 0.002" in caption(figure)


@pytest.mark.parametrize("law", [lambda i: 1 / i, lambda i: 101 - i, lambda i: 0 * i + 1])
def test_no_singular_value_is_behind_the_inset(law):
    values = law(numpy.arange(1, 101)).astype(float).tolist()
    with style.context():
        figure, (axes, other) = canvas.Sheet(1).panels(2, 3, 2.4)
        for one in (axes, other):
            draw_values(one, {"singular_values": {"W": values}}, "W", "W", "black")
        draw_inset(axes, values)
        figure.draw_without_rendering()
    (inset,) = axes.child_axes
    points = axes.transData.transform(numpy.column_stack(axes.lines[0].get_data()))
    assert not [point for point in points if inset.get_tightbbox().contains(*point)]


def test_a_spoilt_spectrum_is_refused(copied):
    path = record(copied, "spectra.json")
    found = read_json(path)
    write_json(path, {key: value for key, value in found.items() if key != "student_t"})
    with pytest.raises(UserError, match="unknown entry 'student_t'"):
        drawn("figure11", copied)
    found["singular_values"]["W"][0] = float("nan")
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(UserError, match="'singular_values' holds what is not a finite number"):
        drawn("figure3", copied)
