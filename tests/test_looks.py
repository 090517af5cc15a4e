"""A method keeps its colour and marker, a quantization its line and hatch, in every figure of every config."""

import pytest
from figured import drawn, made
from matplotlib.colors import to_hex
from plugged import plugged, text
from wrong_methods import PLAIN

from pissa_repro import methods, quantizers
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep

WHY = "a reason that is long enough"
DORA = {"pissa-dora": {"init": "pissa", "lora": {"use_dora": True}}}
EMBEDDED = [("full", "none"), ("lora", "none"), ("pissa", "none"), ("lora", "nf4"), ("loftq", "nf4"), ("pissa", "nf4")]


def cells(*pairs):
    return [{"method": method, "quant": quant} for method, quant in pairs]


def seen(folder, *pairs, **more):
    """How each label is shown: of its line the colour, marker, dashes and width, of its bar edge, face and hatch."""
    sweep = made(folder, seeds=[0], cells=cells(*pairs), **more)
    curves, bars = (drawn(name, sweep, folder).axes[0] for name in ("figure4a", "accuracy"))
    names = [text.get_text() for text in bars.get_xticklabels()]
    shown = {
        line.get_label(): (
            to_hex(line.get_color()), str(line.get_marker()), str(line._dash_pattern), line.get_linewidth(),
            to_hex(bar.get_edgecolor()), to_hex(bar.get_facecolor()), bar.get_hatch() or "",
        )
        for line, bar in zip(curves.lines, bars.patches, strict=True)
    }  # fmt: skip
    assert list(shown) == names and len(shown) == len(pairs)
    return shown


def test_what_else_is_swept_and_in_which_order_changes_no_look(tmp_path):
    """Case 5: without LoftQ, with another method first, alone: LoRA, PiSSA, QLoRA, QPiSSA look the same."""
    whole = seen(tmp_path / "a", *EMBEDDED)
    others = [
        [pair for pair in EMBEDDED if pair[0] != "loftq"],
        EMBEDDED[::-1],
        [("milora", "none"), *EMBEDDED[2:4]],
        EMBEDDED[5:],
    ]
    for number, pairs in enumerate(others):
        found = seen(tmp_path / str(number), *pairs)
        shared = whole.keys() & found.keys()
        assert shared and {label: found[label] for label in shared} == {label: whole[label] for label in shared}


def test_the_colours_of_the_shipped_methods_differ_and_are_those_of_the_committed_figures(tmp_path):
    """Case 5: full FT black, LoRA blue, PiSSA vermilion, LoftQ green; no two methods share colour and marker."""
    names = [name for name in methods.names() if not methods.refusal(name, "none")]
    found = list(seen(tmp_path, *((name, "none") for name in names), ("loftq", "nf4")).values())
    colours = dict(zip([*names, "loftq"], (look[0] for look in found), strict=True))
    committed = {"full": "#000000", "lora": "#0072b2", "pissa": "#d55e00", "loftq": "#009e73"}
    assert committed.items() <= colours.items()
    assert len({look[:2] for look in found}) == len(names) + 1


def test_no_two_quantizations_have_a_line_or_a_hatch_in_common(tmp_path):
    """Case 5: none and nf4-dq looked the same."""
    found = list(seen(tmp_path, *(("lora", quant) for quant in quantizers.names())).values())
    assert len({look[:2] for look in found}) == 1  # one method, one colour and marker
    for part in (2, 6):
        assert len({look[part] for look in found}) == len(quantizers.names())


def test_a_method_of_the_config_has_the_colour_of_its_file_and_a_marker_line_and_tint_of_its_own(tmp_path):
    """Case 5: DoRA on PiSSA's start looks like PiSSA and is told from it, in lines and in bars."""
    found = seen(tmp_path, ("pissa", "none"), ("pissa-dora", "none"), sections={"methods": DORA})
    plain, dora = found.values()
    assert plain[0] == dora[0] and plain[6] == dora[6]
    for part in (1, 3, 5):
        assert plain[part] != dora[part]


def test_variants_of_one_file_differ_and_follow_from_their_definitions(tmp_path):
    """Case 5: all solvers of Table 6's config; in any order, and with other names of the same definition."""
    config = load(ROOT / "config/config.yaml", ROOT / "config/table6.yaml")
    named = {name: method for name, method in config["methods"].items() if method["init"] == "pissa"}
    assert len(named) > 4
    found = seen(tmp_path / "a", *((name, "none") for name in named), sections={"methods": named})
    assert len({look[1] for look in found.values()}) == len(named)
    backwards = dict(reversed(named.items()))
    again = seen(tmp_path / "b", *((name, "none") for name in backwards), sections={"methods": backwards})
    assert again == found
    (other,) = seen(tmp_path / "c", ("mine", "none"), sections={"methods": {"mine": DORA["pissa-dora"]}}).values()
    assert other in seen(tmp_path / "d", ("pissa-dora", "none"), sections={"methods": DORA}).values()


def test_overrides_are_part_of_a_definition(tmp_path):
    """Case 5: two methods that differ in their overrides only differ in their look, in any order of the overrides."""
    named = {name: {"init": "lora"} for name in ("rslora", "fast")}
    overrides = [
        {"where": {"method": "rslora"}, "set": {"rslora": True}, "why": WHY},
        {"where": {"method": "fast"}, "set": {"max_grad_norm": 9.0}, "why": WHY},
        {"where": {"method": "fast", "quant": "none"}, "set": {"dropout": 0.1}, "why": WHY},
    ]
    shown = []
    for number, order in enumerate((overrides, overrides[::-1])):
        sections = {"methods": named, "overrides": list(order)}
        shown.append(seen(tmp_path / str(number), *((name, "none") for name in named), sections=sections))
    assert shown[0] == shown[1]
    assert len({look[1] for look in shown[0].values()}) == 2


def test_a_plug_in_that_says_no_look_has_one_that_no_shipped_one_has(tmp_path, monkeypatch):
    """Case 5: it follows from the file's name, and not from what else is swept."""
    shipped = seen(tmp_path / "a", ("full", "none"), ("lora", "none"), ("pissa", "none"), ("milora", "none"))
    monkeypatch.setattr(methods.load("milora"), "LOOK", None, raising=False)
    monkeypatch.setattr(quantizers.PLUGINS.load("fp4"), "LOOKS", {}, raising=False)
    alone = seen(tmp_path / "b", ("milora", "none"), ("lora", "fp4"), ("lora", "nf4"))
    first = seen(tmp_path / "c", ("lora", "fp4"), ("milora", "none"))
    assert all(first[label] == alone[label] for label in first)
    assert alone["MiLoRA"][:2] not in [look[:2] for look in shipped.values()]
    assert alone["QLoRA (fp4)"][6] not in {"", alone["QLoRA"][6]}


def test_plug_ins_that_say_no_look_differ_from_each_other(tmp_path, monkeypatch):
    """Case 5: those of one number, too; the shipped ones look as without them."""
    from pissa_repro.report.figures.looks import look

    shipped = {name: look("", name, "none") for name in methods.names()}
    with plugged(tmp_path, {f"mine_{number}": text("mine", PLAIN) for number in range(12)}):
        found = {name: look("", name, "none") for name in methods.names()}
    assert shipped.items() <= found.items()
    assert len({(one.colour, one.marker) for one in found.values()}) == len(shipped) + 12
    file = quantizers.PLUGINS.load("int4")
    given = {quant: look("", "lora", quant) for quant in quantizers.names() if not quant.startswith("int4")}
    monkeypatch.setattr(file, "LOOKS", {}, raising=False)
    found = {quant: look("", "lora", quant) for quant in quantizers.names()}
    assert given.items() <= found.items() and len(file.VARIANTS) > 2
    for part in ("line", "hatch"):
        assert len({getattr(one, part) for one in found.values()}) == len(found)


def test_where_no_number_is_free_they_come_again():
    from pissa_repro.report.figures.looks import _numbered

    names = [f"mine_{number}" for number in range(7)]
    found = _numbered({"given": 2, **dict.fromkeys(reversed(names))}, range(1, 5))
    assert found == _numbered({**dict.fromkeys(names), "given": 2}, range(1, 5))
    assert found["given"] == 2 and sorted(found[name] for name in names[:3]) == [1, 3, 4]
    assert set(found.values()) == {1, 2, 3, 4}


@pytest.mark.parametrize("name", methods.names())
def test_a_look_is_known_for_every_method(name):
    """Case 5: of all plug-ins in the room, no two have the same colour with the same marker."""
    from pissa_repro.report.figures.looks import look

    mine, others = look("", name, "nf4"), [look("", other, "nf4") for other in methods.names() if other != name]
    assert (mine.colour, mine.marker) not in [(other.colour, other.marker) for other in others]


def test_the_figures_of_studies_show_a_method_as_those_of_the_sweep(tmp_path):
    """Case 5: whatever is swept beside it, and where it is not swept at all."""
    from pissa_repro.report.figures import looks, study_data

    config = load(ROOT / "config/config.yaml")
    config["sweep"]["cells"] = cells(("pissa", "nf4"), ("olora", "none"))
    found = looks.looks(Sweep(config))
    assert study_data.look("pissa") == found["pissa", "nf4"]
    assert study_data.look("loftq") == looks.looks(Sweep(load(ROOT / "config/config.yaml")))["loftq", "nf4"]
