"""Errors weighed by what modules see, the divergence of a start from its model, and which of them go with the loss."""

import random

import numpy
import pytest
import scipy.stats
import torch
from commands import pissa
from stage import says
from starting import decaying, made_up, spec_of, start_of
from weighed import Weighed, config

from pissa_repro.exhibits import PLUGINS
from pissa_repro.model import factors
from pissa_repro.model.adapter import attach
from pissa_repro.model.base import set_base
from pissa_repro.model.load import load_base
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.plan import admission
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results import correlation
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_json, read_lines
from pissa_repro.starts import divergence, error, weighing
from pissa_repro.training.examples import tokenize

DATA = {"dataset": "rows", "rows": 6, "seed": 1}
METHODS = ["lora", "loftq", "pissa", "lqer", "qera"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, tiny_model, tiny_rows):
    """Five methods: starts, their errors, and trainings of two steps. Do not write to it."""
    made = Weighed(Sweep(config(tiny_model, tiny_rows, METHODS, DATA)), tmp_path_factory.mktemp("weighed"))
    for cell in made.sweep.cells.values():
        made.error(cell)
        made.train(cell)
    return made


def cells(swept):
    return {cell.method: cell for cell in swept.sweep.cells.values()}


def recorded(swept, method):
    return read_json(paths.start_error(cells(swept)[method].start, swept.results))


def drawn(model, rows):
    """The rows that DATA draws, as tokens and labels."""
    lines = read_lines(rows)
    some = [lines[number] for number in random.Random(DATA["seed"]).sample(range(len(lines)), DATA["rows"])]
    return tokenize(some, load_tokenizer(model), 256)[0]


def cell_model(folder, start, stored):
    """The cell before its training, as PEFT runs it."""
    initial, base = factors.load(start, read_json(stored)), load_base(folder)
    set_base(base, initial, "nf4", "float32", pack=False)
    return attach(base, start, {}).eval()


def test_the_weighted_error_is_that_of_the_inputs_that_a_module_sees(swept, tiny_model):
    """sqrt(mean |(W - (base + sBA)) x|^2) over all tokens of the rows, written out by hooks on the model."""
    start, model = swept.start(cells(swept)["pissa"]), load_base(tiny_model)
    initial, name = factors.load(start, read_json(swept.model)), "model.layers.1.mlp.down_proj"
    layer, inputs = model.get_submodule(name), []
    layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0][0].detach()))
    for example in drawn(tiny_model, swept.rows):
        model(input_ids=torch.tensor([example["input_ids"]]))
    weight = layer.weight.detach().clone()
    set_base(model, initial, "nf4", "float32", pack=False)
    rest = weight - layer.weight.detach() - initial.scaling(name) * initial.B[name] @ initial.A[name]
    found, x = recorded(swept, "pissa")["modules"][name], torch.cat(inputs).double()
    assert found["weighted"] == pytest.approx((x @ rest.double().T).square().sum(1).mean().sqrt().item(), rel=1e-4)
    assert found["weighted"] != pytest.approx(found["frobenius"], rel=0.1)
    total = recorded(swept, "pissa")["total"]
    assert total["weighted"] == pytest.approx(sum(m["weighted"] for m in recorded(swept, "pissa")["modules"].values()))


@pytest.mark.parametrize("method", ["lora", "pissa"])
def test_the_divergence_is_kl_of_the_cell_from_its_model_over_labelled_tokens(swept, tiny_model, method):
    """KL(model || cell) by torch's kl_div, the cell as PEFT runs it."""
    cell = cell_model(tiny_model, swept.start(cells(swept)[method]), swept.model)
    base, total, tokens = load_base(tiny_model).eval(), 0.0, 0
    for example in drawn(tiny_model, swept.rows):
        ids, labels = (torch.tensor(example[key]) for key in ("input_ids", "labels"))
        with torch.no_grad():
            p, q = (model(input_ids=ids[None]).logits[0, :-1].double().log_softmax(-1) for model in (base, cell))
        wanted = labels[1:] != -100
        total += torch.nn.functional.kl_div(q[wanted], p[wanted], reduction="sum", log_target=True).item()
        tokens += int(wanted.sum())
    found = recorded(swept, method)
    assert found["divergence_tokens"] == tokens
    assert found["divergence"] > 0 and found["divergence"] == pytest.approx(total / tokens, rel=1e-3)


def test_a_layer_that_stores_its_weight_transposed_becomes_the_same_cell(tmp_path, tiny_gpt2, tiny_rows):
    """On GPT-2, whose Conv1D holds (in, out), a start on a plain base is the model itself."""
    made = Weighed(Sweep(config(tiny_gpt2["hub"], tiny_rows, ["pissa"], DATA, targets=["c_attn"])), tmp_path)
    (cell,) = made.sweep.cells.values()
    initial, spec = factors.load(made.start(cell), read_json(made.model)), made.sweep.weighing(cell).spec
    plain, nf4 = (
        divergence.measure(str(tiny_gpt2["hub"]), initial, quant, spec, made.rows).kl for quant in ("none", "nf4")
    )
    assert plain < 1e-9 < 1e-7 < nf4


def test_in_closed_form_no_error_of_this_rank_on_this_base_is_smaller():
    """Theorem 1 of QERA, in the norm that is measured; and in the Frobenius norm LoftQ's first step is the least."""
    weight = decaying(48, 64)
    known, found = made_up((48, 64)), {}
    for method in ("lora", "loftq", "lqer", "qera"):
        spec = spec_of(method, "nf4", 8, 8)
        start = start_of("m.q_proj", weight, spec, known)[0]
        found[method] = error.error(error.rest_of(weight, start, spec), known["covariance"])
    assert found["qera"]["weighted"] < min(found[name]["weighted"] for name in ("lora", "loftq", "lqer"))
    assert found["loftq"]["frobenius"] < min(found[name]["frobenius"] for name in ("lora", "lqer", "qera"))


def test_specs_without_data_are_those_of_before(tiny_model, tiny_rows):
    without, with_data = (Sweep(config(tiny_model, tiny_rows, METHODS[:2], data)) for data in (None, DATA))
    for one, other in zip(without.cells.values(), with_data.cells.values(), strict=True):
        spec, weighed = without.quant_error_spec(one), dict(with_data.quant_error_spec(other))
        assert spec.keys() == {"stage", "version", "init"} and one.start == other.start
        assert weighed.pop("weighed_by")["rows"] == 6 and weighed == spec
        assert without.train_spec(one) == with_data.train_spec(other)
    assert not without.statistic_jobs and len(with_data.statistic_jobs) == 1
    assert not any(PLUGINS.load(name).needs(without) for name in ("start_errors", "predictors"))


def test_a_record_from_before_has_no_more_than_it_had(tmp_path, tiny_model, tiny_rows):
    made = Weighed(Sweep(config(tiny_model, tiny_rows, ["lora"], None)), tmp_path)
    record = made.error(*made.sweep.cells.values())
    assert set(record) == {"spec", "base", "total", "reduction", "modules", "provenance"}
    assert set(record["total"]) == {f"{kind}{plain}" for kind in ("nuclear", "frobenius") for plain in ("", "_plain")}


def test_what_makes_no_sense_is_refused_in_the_dry_run(tiny_model, tiny_rows):
    def refused(*words, **data):
        says(lambda: Sweep(config(tiny_model, tiny_rows, ["lora"], DATA | data)), "config.studies.data", *words)

    refused("unknown dataset 'row'", "Did you mean 'rows'?", dataset="row")
    refused("config.studies.data.rows", "draws 13 rows", "'rows' has at most 12", rows=13)
    refused("seed", seed=-1)
    refused("unknown key 'lines'", lines=1)


def test_rows_that_only_errors_are_weighed_by_are_admitted(tiny_model, tiny_rows):
    made = config(tiny_model, tiny_rows, ["lora"], {"dataset": "others", "rows": 3})
    made["datasets"]["others"] = made["datasets"]["rows"]
    assert [one["rows"] for one in admission.spec(Sweep(made), "sweep", "tiny")["training"]] == ["rows", "others"]


def test_statistics_and_rows_that_do_not_belong_are_refused(swept, tmp_path):
    cell = cells(swept)["qera"]
    (own,) = (paths.statistics(name, swept.results) for name in swept.sweep.known(cell))
    stored, spec = read_json(swept.model), swept.sweep.weighing(cell).spec
    says(lambda: weighing.known(stored, own, spec), "--statistics", "covariance")
    says(lambda: weighing.known(stored, None, spec), "--statistics", "asks for ['covariance']", "these are []")
    by = weighing.known(stored, own)
    other = tmp_path / "rows.jsonl"
    other.write_bytes(swept.rows.read_bytes() + b"\n")
    says(lambda: weighing.compared(stored, swept.start(cell), "nf4", by, other), str(other), "not the rows of")
    (magnitudes,) = (paths.statistics(name, swept.results) for name in swept.sweep.known(cells(swept)["lqer"]))
    says(lambda: weighing.known(stored, magnitudes), "kind 'magnitude'", "covariance")


def test_by_hand_the_errors_are_those_of_the_sweep(swept, tmp_path):
    cell, folder = cells(swept)["pissa"], read_json(swept.model)["path"]
    by = ("--covariance", paths.statistics(swept.sweep.weighing(cell).name, swept.results))
    pissa(
        "quant-error", folder, "--factors", swept.start(cell), *by, "--rows", swept.rows, "--out", tmp_path / "a.json"
    )
    found, wanted = read_json(tmp_path / "a.json"), recorded(swept, "pissa")
    assert {key: found[key] for key in ("total", "divergence")} == {key: wanted[key] for key in ("total", "divergence")}
    targets = [word for name in ("q_proj", "down_proj") for word in ("--target-module", name)]
    start = ("--method", "pissa", "--quant", "nf4", "--rank", "4", "--scratch", tmp_path, *targets)
    pissa("quant-error", folder, *start, *by, "--out", tmp_path / "b.json")
    (one,) = read_json(tmp_path / "b.json")["starts"]
    assert one["total"]["weighted"] == pytest.approx(wanted["total"]["weighted"], rel=1e-5)
    rows = ("--rows", swept.rows, "--out", tmp_path / "c.json")
    says(lambda: pissa("quant-error", folder, *start, *rows), "--rows", "--factors and --covariance")


def test_the_tables_show_each_error_and_its_rank_correlation_with_the_loss(swept):
    table, other = (PLUGINS.load(name).make(swept.sweep, swept.results) for name in ("start_errors", "predictors"))
    shown, ranked = table.rows, other.rows
    assert [row["config method"] for row in shown] == METHODS
    losses = [read_json(paths.cell(cell.name, swept.results).train)["final_loss"] for cell in cells(swept).values()]
    assert [row["final loss"] for row in shown] == losses
    for kind, column in zip(("nuclear", "frobenius", "weighted", "divergence"), ranked, strict=True):
        values = [row.get(kind, row["KL, nats a token"]) for row in shown]
        assert column["Kendall's tau"] == pytest.approx(scipy.stats.kendalltau(values, losses).statistic)
        assert column["low"] <= column["Kendall's tau"] <= column["high"] and column["cells"] == 5
    assert shown[0]["weighted reduction, %"] == 0 and "e+00" not in table.markdown  # zero is "0"
    assert shown[2]["weighted"] == recorded(swept, "pissa")["total"]["weighted"]


def test_a_record_of_another_draw_of_rows_is_not_shown(swept, tiny_model, tiny_rows):
    other = Sweep(config(tiny_model, tiny_rows, METHODS, DATA | {"seed": 2}))
    says(
        lambda: PLUGINS.load("start_errors").make(other, swept.results), "spec.weighed_by.seed is 1, the config says 2"
    )


def test_kendalls_tau_is_scipys_and_its_interval_that_of_drawn_pairs():
    generator = numpy.random.default_rng(3)
    a, b = generator.integers(0, 6, 12), generator.integers(0, 6, 12)  # with ties
    found = correlation.kendall(a, b)
    assert found.tau == pytest.approx(scipy.stats.kendalltau(a, b).statistic) and found.n == 12
    draws = generator.integers(0, 12, (2000, 12))
    taus = [scipy.stats.kendalltau(a[draw], b[draw]).statistic for draw in draws]
    assert (found.low, found.high) == pytest.approx(tuple(numpy.nanquantile(taus, [0.025, 0.975])), abs=0.06)
    same = correlation.kendall([1, 2, 3, 4, 5], [2, 4, 6, 8, 10])
    assert same[:3] == pytest.approx((1, 1, 1))
    assert correlation.kendall([1, 2, 3, 4], [1, 2, 3, 4]) is None
    assert correlation.kendall([1] * 6, range(6)) is None
