"""What holds for every figure of the studies, on records that the stages made from a tiny model."""

import copy

import numpy
import pytest
from matplotlib.colors import to_hex
from studied import caption, drawn, lines, mean, measured, record, sweep_of

from pissa_repro import exhibits, methods
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import looks, study_data
from pissa_repro.results.study import Study
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import canonical
from pissa_repro.stages import figure

MODEL = paths.study("tiny", "x").parent
PLACES = {
    name: next(iter(exhibit.parts(None)))
    for name, exhibit in ((name, exhibits.PLUGINS.load(name)) for name in exhibits.PLUGINS.names())
    if (exhibit.KIND, exhibit.TARGET) == ("figure", "studies")
    and {path.parent for path in exhibit.needs(sweep_of("unread"))} == {MODEL}
}  # of each figure of the studies of a model's starts


@pytest.mark.parametrize("name", PLACES)
def test_writes_both_formats_and_the_same_bytes_again(name, study, tmp_path):
    for attempt in "12":
        out = [str(tmp_path / f"{attempt}.{kind}") for kind in ("svg", "png")]
        same = ["--config", canonical(study.sweep.config), "--results", str(study.results)]
        figure.main([*same, "--place", PLACES[name], "--out", *out])
    for kind, start in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        first = (tmp_path / f"1.{kind}").read_bytes()
        assert first == (tmp_path / f"2.{kind}").read_bytes() and first.startswith(start)


@pytest.mark.parametrize("name", PLACES)
def test_titles_and_captions_name_the_model_its_modules_and_whose_the_published_numbers_are(name, study):
    figure = drawn(name, study)
    text = caption(figure)
    assert figure.get_suptitle().endswith(": tiny (embedded)") and text.startswith("tiny (embedded); ")
    count = {"figure7a": 2, "figure14": 12}.get(name, 14)
    assert f"{count} modules" in text
    text += "".join(axes.get_title() for axes in figure.axes)
    assert any(words in text for words in ("another model", "of other models", "the paper prints none"))


@pytest.mark.parametrize("name", ["figure3", "figure7a", "figure10", "figure14", "alternations", "blocks"])
def test_no_point_lies_outside_the_axes(name, study):
    for axes in drawn(name, study).axes:
        for line in axes.lines:
            points = axes.transData.transform(numpy.column_stack(line.get_data()))
            box = axes.get_window_extent().padded(0.01)
            assert all(box.contains(*point) for point in points), line.get_label()


def test_a_further_method_appears_by_itself(tiny_model, tmp_path, monkeypatch):
    """A method file that the figures do not know; here one that is made to take alternations, of which it has one."""
    monkeypatch.setattr(methods.load("milora"), "QUANTIZED_OPTIONS", {"alternations": 1}, raising=False)
    study = measured(sweep_of(tiny_model, methods=["loftq", "pissa", "milora"], ranks=[2]), tmp_path)
    found = lines(drawn("figure7a", study).axes[0])
    expected = mean(study, "ranks", method="milora", type="q_proj", alternations=1)
    assert list(found["QMiLoRA, T = 1"].get_ydata()) == pytest.approx([expected])
    assert len({to_hex(found[f"{name}, T = 1"].get_color()) for name in ("LoftQ", "QPiSSA", "QMiLoRA")}) == 3
    assert len(drawn("figure2b", study).axes[0].patches) == 7
    assert "QMiLoRA" in [axes.get_title() for axes in drawn("depth", study).axes]
    assert "QMiLoRA, r = 2" in lines(drawn("alternations", study).axes[0])


def test_any_model_gpt2(tiny_gpt2, tmp_path):
    """Four types, none of them the paper's: there is nothing published beside."""
    study = measured(sweep_of(tiny_gpt2["saved"], methods=["pissa"], alternations=[1]), tmp_path)
    for name in PLACES:
        drawn(name, study)
    figure = drawn("figure14", study)
    assert len(figure.axes) == 3 and "no published numbers" in caption(figure)
    figure = drawn("depth", study)
    assert len(figure.axes[0].texts) == 8 and "no published numbers" in caption(figure)


def test_a_model_of_the_paper_has_its_own_numbers_beside(study):
    config = copy.deepcopy(study.sweep.config)
    config["models"]["tiny"]["paper"] = "llama-3-8b"
    own = Study(Sweep(config), "tiny", study.results)
    found = lines(drawn("figure7a", own).axes[0])
    theirs = found["QPiSSA, T = 5, published\nLLaMA-3-8B"]
    assert (list(theirs.get_xdata()), list(theirs.get_ydata())) == ([64, 128], [17.1, 26.3])
    assert "another model" not in caption(drawn("figure7a", own))
    assert "LLaMA-3-8B (this model)" in caption(drawn("figure9", own))


def test_colours_are_those_of_the_sweep(study):
    (look,) = looks.looks(study.sweep).values()
    assert study_data.look("pissa") == look


@pytest.mark.parametrize("name", PLACES)
def test_a_missing_record_is_named(name, copied):
    for path in record(copied, "").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no such record"):
        drawn(name, copied)


def test_records_of_another_config_are_refused(study):
    other = Study(sweep_of(study.sweep.config["models"]["tiny"]["path"], ranks=[2, 8]), "tiny", study.results)
    with pytest.raises(UserError, match="made from another config"):
        drawn("figure14", other)


@pytest.fixture(scope="module")
def two(study, tiny_gpt2, tmp_path_factory) -> Study:
    """The same study in a sweep that studies a second model, too."""
    config = copy.deepcopy(study.sweep.config)
    config["models"]["second"] = {"path": str(tiny_gpt2["saved"]), "display": "second"}
    config["studies"]["models"] = ["tiny", "second"]
    return measured(Sweep(config), tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("name", PLACES)
def test_several_models_are_blocks_of_one_figure_and_each_is_as_alone(name, study, two):
    both = drawn(name, two).subfigs
    assert [block.get_suptitle().rpartition(": ")[2] for block in both] == ["tiny (embedded)", "second"]
    alone = drawn(name, study)
    for one, other in zip(alone.axes, both[0].axes, strict=True):
        assert one.get_title() == other.get_title()
        for line, same in zip(one.lines, other.lines, strict=True):
            numpy.testing.assert_array_equal(line.get_xydata(), same.get_xydata())
    assert " ".join(both[0].get_supxlabel().split()) == caption(alone)
    low, high = (block.bbox.height for block in reversed(both))
    assert low > 0 and high > 0 and both[0].bbox.y0 >= both[1].bbox.y1 - 1
