"""Which row of a table is the reference, and that the order of a config changes no number and no word."""

import itertools
import random

import numpy as np
import pytest
from tabled import ITEMS, run, with_validation

from pissa_repro import methods
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.quantizers import _scores
from pissa_repro.results import rows as lines
from pissa_repro.results.study import Study

WHY = "the scaling of rsLoRA, for this method alone"
RSLORA = {"where": {"method": "rslora"}, "set": {"rslora": True}, "why": WHY}
NAMED = {
    "rslora": {"init": "lora"},
    "pissa-dora": {"init": "pissa", "lora": {"use_dora": True}},
    "mine": {"init": "lora"},
}
SHARE = {"lora": 0.40, "rslora": 0.45, "pissa": 0.60, "pissa-dora": 0.55, "full": 0.50, "mine": 0.40}


@pytest.fixture
def table(tmp_path, config, monkeypatch):
    """A function that makes the table of cells, with the methods above: its rows by the config's name, and its text."""
    monkeypatch.setattr("tabled.LOSS", {(name, quant): 0.5 for name in SHARE for quant in ("none", "nf4")})
    monkeypatch.setattr("tabled.facts_of", _without_reduction)

    def build(pairs, overrides=(), scored=by_share, **changes):
        changed = with_validation(config)
        changed["methods"] |= NAMED
        changed["overrides"] = list(overrides)
        cells = [{"method": method, "quant": quant} for method, quant in pairs]
        return run(tmp_path, changed, cells=cells, scored=scored, **changes)

    return build


def _without_reduction(sweep, cell):
    keys = "model data method quant rank learning_rate seed".split()
    facts = {key: getattr(cell, key) for key in keys} | {"cell": cell.name, "display": sweep.display(cell)}
    return facts | {
        "final_loss": SHARE[cell.method] + 0.001 * cell.seed, "trainable_parameters": 9, "error_reduction": None,
        "train_seconds": 1, "memory_bytes": 2, "gpu_memory_bytes": None, "commit": "c0ffee", "dirty": False,
    }  # fmt: skip


def by_share(cell, task):
    rng = np.random.default_rng([cell.seed, *cell.method.encode()])
    right = (np.arange(ITEMS) / ITEMS + rng.normal(0, 0.02, ITEMS) < SHARE[cell.method] + cell.learning_rate).astype(
        float
    )
    return {"paper": (right.tolist(), right.mean())}


@pytest.mark.parametrize("order", [*itertools.permutations(["rslora", "lora", "pissa"])])
def test_lora_as_it_is_is_the_reference_wherever_it_stands(table, order):
    """Case 4: rsLoRA by an override, listed before LoRA, took its place."""
    rows, text = table([(name, "none") for name in order], [RSLORA])
    found = dict(zip(order, rows, strict=True))
    means = {name: float(row["score_mean"]) for name, row in found.items()}
    for name in ("rslora", "pissa"):
        assert found[name]["diff_to_lora"]
        assert float(found[name]["diff_to_lora"]) == pytest.approx(means[name] - means["lora"], abs=1e-3) != 0
    assert (found["lora"]["diff_to_lora"], found["lora"]["diff_verdict"]) == ("", "reference")
    assert "- LoRA (rslora) against LoRA (rank 16):" in text and "points to LoRA (same base" in text
    assert "No difference for" not in text


def test_without_a_plain_row_the_table_says_so_and_compares_nothing(table):
    """Case 4: neither an override of its own nor a `lora:` field makes a reference."""
    rows, text = table([("rslora", "none"), ("pissa", "none")], [RSLORA])
    assert {row["diff_to_lora"] for row in rows} == {row["diff_verdict"] for row in rows} == {""}
    assert "No difference for LoRA (rslora) of rank 16 and PiSSA of rank 16: there is no LoRA with default" in text
    assert "against" not in text.split("Accuracy in percent")[0]


def test_two_plain_rows_are_no_reference_and_the_table_says_so(table):
    """Case 4: which of them came first decided."""
    rows, text = table([("mine", "none"), ("lora", "none"), ("pissa", "none")])
    assert {row["diff_to_lora"] for row in rows} == {""}
    assert "LoRA (mine) of rank 16, LoRA of rank 16 and PiSSA of rank 16: LoRA and LoRA (mine) have the same" in text


def test_a_row_at_a_rank_or_rate_without_a_reference_is_named(table):
    """Case 4: an override of PiSSA's rank leaves it without a LoRA of that rank."""
    override = {"where": {"method": "pissa"}, "set": {"rank": 8}, "why": "half of the parameters"}
    rows, text = table([("full", "none"), ("lora", "none"), ("pissa", "none")], [override])
    assert [bool(row["diff_to_lora"]) for row in rows] == [True, False, False]
    assert "No difference for PiSSA of rank 8: there is no LoRA" in text


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"quant": "none"}, True),
        ({"model": "mini-llama"}, True),
        ({"method": "pissa"}, True),
        ({"method": "lora"}, False),
    ],
)
def test_an_override_of_all_methods_leaves_a_reference(config, where, expected):
    """Case 4: only what is aimed at the method alone makes it another one."""
    sweep = Sweep(config | {"overrides": [{"where": where, "set": {"max_grad_norm": 0.5}, "why": WHY}]})
    cell = next(cell for cell in sweep.cells.values() if (cell.method, cell.quant) == ("lora", "none"))
    assert lines.as_it_is(sweep, cell) == expected


def test_an_option_that_is_not_the_default_makes_no_reference(config, monkeypatch):
    """Case 4: for any method that says REFERENCE; an option that does not apply on this base changes nothing."""
    monkeypatch.setattr(methods.load("pissa"), "REFERENCE", True, raising=False)
    sweep = Sweep(config)  # its pissa alternates five times on a quantized base
    found = {c.quant: lines.as_it_is(sweep, c) for c in sweep.cells.values() if c.method == "pissa"}
    assert found == {"none": True, "nf4": False}


def test_one_shipped_method_is_the_reference():
    """Case 4: the file says so itself."""
    assert len([name for name in methods.names() if methods.load(name).REFERENCE]) == 1


def test_reasons_of_overrides_stand_in_the_caption(table):
    """Case 5: each reason once, with the rows that it is about."""
    shared = {"where": {"quant": "none"}, "set": {"max_grad_norm": 0.5}, "why": "steps are clipped here"}
    _, text = table([("lora", "none"), ("rslora", "none"), ("pissa", "none")], [RSLORA, shared])
    first = "LoRA, LoRA (rslora), PiSSA: steps are clipped here"
    assert f"By overrides of the config: {first}; LoRA (rslora): {WHY}." in text


def test_rows_claims_and_columns_have_one_name_for_one_row(table):
    """Case 5: two rows were called PiSSA, and a claim was LoRA against LoRA."""
    rows, text = table([("lora", "none"), ("pissa", "none"), ("pissa-dora", "none"), ("rslora", "none")], [RSLORA])
    assert [row["method"] for row in rows] == ["LoRA", "PiSSA", "PiSSA (pissa-dora)", "LoRA (rslora)"]
    assert [row["config_method"] for row in rows] == ["lora", "pissa", "pissa-dora", "rslora"]
    claims = [line for line in text.splitlines() if line.startswith("- ")]
    assert [claim.split(" (rank")[0] for claim in claims] == [f"- {row['method']} against LoRA" for row in rows[1:]]
    for row in rows:
        assert f"\n| {row['method']} | {row['config_method']} | none |" in text


def test_table_9_takes_no_mean_over_two_rows(table, tmp_path, config):
    """Case 5: the scores of PiSSA and of PiSSA with DoRA stood there as one number, their mean."""
    pairs = [("pissa", "nf4"), ("pissa-dora", "nf4")]
    rows, _ = table(pairs)
    cells = [{"method": method, "quant": quant} for method, quant in pairs]
    changed = config | {"methods": config["methods"] | NAMED, "sweep": config["sweep"] | {"cells": cells}}
    sweep = Sweep(changed | {"studies": config["studies"] | {"trained": True}})
    found = _scores(Study(sweep, "mini-llama", tmp_path))["nf4"]
    assert found == {f"gsm-mini {row['method']} r16": pytest.approx(float(row["score_mean"]), rel=1e-5) for row in rows}
    assert len(found) == 2


def test_the_order_of_a_config_changes_no_number_and_no_word(table):
    """Case 4: seeds, rates, ranks, methods, models; with equal means on the validation items, too."""

    def scored(cell, task):  # all rates are equally good on the validation items
        return by_share(cell, task) if task == "gsm-mini" else {"paper": ([1.0, 0.0] * 10, 0.5)}

    pairs = [("full", "none"), ("rslora", "none"), ("lora", "none"), ("pissa-dora", "none"), ("lora", "nf4")]
    tasks = ["gsm-mini", "gsm-mini-validation"]
    lists = {"seeds": [0, 1, 2], "ranks": [4, 8], "learning_rates": [0.02, 0.04], "tasks": tasks}
    shared = {"where": {"quant": "nf4"}, "set": {"max_grad_norm": 0.5}, "why": "steps are clipped here"}
    overrides, rng, found = [RSLORA, shared], random.Random(0), []
    for _ in range(3):
        rows, text = table(pairs, overrides, scored, **lists)
        numbers = {(row["task"], row["method"], row["rank"], row["learning_rate"]): row for row in rows}
        words = sorted(line for line in text.splitlines() if line.startswith(("- ", "| ", "#")))
        found.append((numbers, words))
        for values in (pairs, overrides, *lists.values()):
            rng.shuffle(values)
    assert found[0] == found[1] == found[2] and len(found[0][0]) == 36


def test_a_prompt_that_is_not_the_released_one_stands_in_the_caption(table):
    """Of all rows, or of some; the released one is not named."""
    pairs = [("lora", "none"), ("pissa", "none")]
    assert "released" not in table(pairs)[1]
    of_one = {"where": {"method": "pissa"}, "set": {"prompt": "plain"}, "why": "its rows hold the words around"}
    assert "Not by the released prompt: PiSSA of rank 16 (`plain`)." in table(pairs, [of_one])[1]
    of_all = of_one | {"where": {"quant": "none"}}
    assert "The prompt is `plain` (docs/reference/config.md), not the released one." in table(pairs, [of_all])[1]
