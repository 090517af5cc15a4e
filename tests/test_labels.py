"""One label for each (method, quant) of a sweep: unique, from the definition, whatever the order of the config."""

import copy

import pytest
from stage import says

from pissa_repro import methods, quantizers
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.table import identity

DOCUMENTED = {"pissa-dora": {"init": "pissa", "lora": {"use_dora": True}}}  # docs/reference/config.md


def shown(cells, named=None):
    """The labels of a sweep, in the order of its cells; no two alike."""
    config = copy.deepcopy(load(ROOT / "config/config.yaml"))
    config["methods"] |= named or {}
    config["sweep"]["cells"] = [{"method": method, "quant": quant} for method, quant in cells]
    sweep = Sweep(config)
    found = {(cell.method, cell.quant): sweep.display(cell) for cell in sweep.cells.values()}
    columns = {identity(sweep, cell)["display"] for cell in sweep.cells.values()}
    assert list(found) == list(cells) and len(set(found.values())) == len(found) and columns == set(found.values())
    return list(found.values())


@pytest.mark.parametrize("names", ["config.yaml", "paper.yaml"])
def test_the_papers_methods_keep_their_names(names):
    """Case 5: T = 5 is an option of the method that the config calls by its file's name."""
    sweep = Sweep(load(ROOT / "config/config.yaml", ROOT / "config" / names))
    found = list(dict.fromkeys(sweep.display(cell) for cell in sweep.cells.values()))
    assert found == ["full FT", "LoRA", "PiSSA", "QLoRA", "LoftQ", "QPiSSA"]


def test_the_documented_dora_is_told_from_pissa():
    """Case 5: both rows were called PiSSA."""
    pairs = [("pissa", "none"), ("pissa-dora", "none"), ("pissa-dora", "nf4"), ("pissa", "nf4")]
    assert shown(pairs, DOCUMENTED) == ["PiSSA", "PiSSA (pissa-dora)", "QPiSSA (pissa-dora)", "QPiSSA"]


def test_a_label_does_not_depend_on_what_else_is_swept():
    """Case 5: neither on its place."""
    pairs = [(name, quant) for name in ("lora", "pissa", "pissa-dora") for quant in ("none", "nf4", "int8")]
    together = dict(zip(pairs, shown(pairs, DOCUMENTED), strict=True))
    backwards = dict(zip(pairs[::-1], shown(pairs[::-1], DOCUMENTED), strict=True))
    assert together == backwards
    assert all(shown([pair], DOCUMENTED) == [label] for pair, label in together.items())


def test_the_quantization_is_in_the_label_where_it_is_not_the_papers():
    """Case 5: every quantization of every method that allows it has a row of its own name."""
    pairs = [(m, q) for m in methods.names() for q in quantizers.names() if not methods.refusal(m, q)]
    found = dict(zip(pairs, shown(pairs), strict=True))
    assert found["lora", "nf4"] == "QLoRA" and found["lora", "int8"] == "QLoRA (int8)"
    assert found["pissa", "nf4-dq"] == "QPiSSA (nf4-dq)"


def test_a_config_that_gives_a_files_name_to_something_else_does_not_hide_it():
    """Case 5: lora with DoRA's magnitudes is not plain LoRA, and a start of PiSSA called lora is none of LoRA."""
    changed = {"lora": {"init": "lora", "lora": {"use_dora": True}}, "mine": {"init": "lora"}}
    assert shown([("lora", "none"), ("mine", "none")], changed) == ["LoRA (use_dora=True)", "LoRA (mine)"]
    assert shown([("lora", "none")], {"lora": {"init": "pissa"}}) == ["PiSSA (lora)"]
    fields = {"target_modules": ".*(q|v)_proj", "lora_alpha": 8, "rank_pattern": {"a|b": 2}}  # it ends a cell
    changed = {"lora": {"init": "lora", "lora": fields}}
    assert shown([("lora", "none")], changed) == ["LoRA (lora_alpha=8, rank_pattern, target_modules)"]


def test_a_display_of_the_config_stands_unless_two_rows_have_it():
    """Case 5: on two bases, or given twice, it gets the names of method and quantization."""
    named = {"a": {"init": "pissa", "display": "mine"}, "b": {"init": "lora", "display": "mine"}}
    assert shown([("a", "nf4")], named) == ["mine"]
    assert shown([("a", "none"), ("a", "nf4")], named) == ["mine (a, none)", "mine (a, nf4)"]
    assert shown([("a", "none"), ("b", "none"), ("lora", "none")], named) == [
        "mine (a, none)",
        "mine (b, none)",
        "LoRA",
    ]
    taken = {"a": {"init": "pissa", "display": "LoRA"}}
    assert shown([("a", "none"), ("lora", "none")], taken) == ["LoRA (a, none)", "LoRA (lora, none)"]


def test_labels_that_cannot_be_told_apart_are_refused_before_any_job():
    """Case 5: the message names the place, the label and what to do."""
    named = {"a": {"init": "pissa", "display": "x"}, "b": {"init": "pissa", "display": "x"}}
    named["c"] = {"init": "pissa", "display": "x (a, none)"}
    pairs = [(name, "none") for name in named]
    says(lambda: shown(pairs, named), "config.methods.a", "'x (a, none)'", "another 'display'")


def test_no_two_plug_ins_have_the_same_name_in_tables():
    """Case 5: on one base, and one method on a plain and on a quantized base but where it allows one of them only."""
    for quant in ("none", "nf4"):
        allowed = [name for name in methods.names() if not methods.refusal(name, quant)]
        assert len({methods.display(name, quant) for name in allowed}) == len(allowed)
