"""Gradients at the start and the first updates: Table 11 and Figure 18, on a tiny Llama."""

import numpy
import pytest
import torch
from helpers import Run, config
from stage import says
from studied import caption
from test_recipe import own_loss

from pissa_repro.exhibits import PLUGINS
from pissa_repro.model import factors
from pissa_repro.model.load import load_base
from pissa_repro.plan import gradients as plan
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.results.gradients import measured
from pissa_repro.results.study import Study
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import canonical, read_json, write_json
from pissa_repro.sources.fetched import identities
from pissa_repro.stages import fetch, study_gradients
from pissa_repro.studies.gradients import Given, compared, first_updates, gradients, progress


def sweep_of(model, rows, **asked) -> Sweep:
    """A sweep whose studies look at the gradients of its model."""
    given = config(model, rows, "lora", "none", epochs=20)
    return Sweep(given | {"studies": {"gradients": {"models": ["tiny"], **asked}}})


@pytest.fixture(scope="module")
def made(tiny_model, tiny_rows, tmp_path_factory):
    """The study of three starts, as the workflow makes it."""
    sweep, results = sweep_of(tiny_model, tiny_rows, seeds=3), tmp_path_factory.mktemp("gradients")
    model, data = paths.model("tiny", results), paths.rows("rows", results)
    fetch.main(["--spec", canonical(sweep.model_spec("tiny")), "--out", str(model)])
    record = str(paths.data("rows", results))
    fetch.main(["--spec", canonical(sweep.data_spec("rows")), "--out", record, "--rows", str(data)])
    study_gradients.main([
        "--spec", canonical(plan.spec(sweep, "tiny")), "--model", str(model), "--data", str(data),
        "--scratch", str(results / "kept"), "--out", str(paths.study("tiny", plan.RECORD, results)),
    ])  # fmt: skip
    return Study(sweep, "tiny", results)


def test_the_gradient_of_lora_is_zero_in_a_and_random_in_b_and_that_of_pissa_is_one(made):
    """The paper's Table 11; batches of fewer than 128 rows where the data have fewer."""
    lora, pissa = measured(made.sweep, made)
    assert lora.facts["gradients"]["A"]["norms"] == [0, 0, 0] and lora.finding("A") == "exactly zero in every seed"
    assert lora.directions("A") == [[0, 0]] * 3 and lora.cosine("A") is None
    assert lora.cosine("B") < 0.5 and lora.finding("B") == "another direction in every seed"
    for factor in ("A", "B"):
        assert pissa.cosine(factor) > 1 - 1e-6 and pissa.finding(factor) == "the same direction in every seed"
        assert numpy.allclose(pissa.directions(factor), [[1, 0]] * 3, atol=1e-6)
    assert lora.facts["rows"] == 12 and (lora.facts["starts"], pissa.facts["starts"]) == ([0, 1, 2], [0, 0, 0])
    assert numpy.allclose(lora.facts["start_losses"], pissa.facts["start_losses"][0], rtol=1e-4)


def test_the_way_begins_at_zero_and_the_first_rate_of_the_warm_up_moves_nothing(made):
    for one in measured(made.sweep, made):
        for factor in ("A", "B"):
            way = one.progress(factor)
            assert way.shape == (3, 6) and (way[:, :2] == 0).all() and (way[:, -1] > way[:, 2]).all()
        assert one.losses().shape == (3, 50) and (one.losses()[:, -1] < one.losses()[:, 0]).all()


def test_gradients_are_those_of_the_mean_loss_by_the_chain_rule(tiny_model, tiny_rows, tmp_path):
    """dL/dA = s B^T G and dL/dB = s G A^T with G = dL/dW of the untouched model, by plain torch; not clipped."""
    run = Run(tmp_path, tiny_model, tiny_rows, "pissa", max_grad_norm=1e-3)
    run.init()
    prepared, stored = run.prepare(), read_json(run.model)
    initial = factors.load(run.start, stored)
    found = gradients(prepared, run.spec, Given(stored, tiny_rows, identities(stored, tiny_rows), 4), run.start)
    base = load_base(str(tiny_model))
    wanted = own_loss(base, [(one["input_ids"], one["labels"]) for one in prepared.examples], 1)
    wanted.backward()
    assert found.loss == pytest.approx(wanted.item(), abs=1e-3)
    for name, a in initial.A.items():
        whole, scale = base.get_submodule(name).weight.grad, initial.scaling(name)
        for got, expected in (("A", initial.B[name].T @ whole), ("B", whole @ a.T)):
            expected = scale * expected
            assert (found.gradients[got][name] - expected).norm() < 1e-3 * expected.norm(), (name, got)
    after = dict(prepared.model.named_parameters())
    for name, a in initial.A.items():  # the parts are left as they were
        (kept,) = [part for key, part in after.items() if f"{name}.lora_A" in key]
        assert torch.equal(kept, a) and kept.grad is None


def test_the_first_updates_are_those_of_the_cells_own_training(tiny_model, tiny_rows, tmp_path):
    run = Run(tmp_path, tiny_model, tiny_rows, "lora", epochs=4)
    run.init()
    run.train("--micro-batch-size", "2")
    stored = read_json(run.model)
    given = Given(stored, tiny_rows, identities(stored, tiny_rows), 2)
    asked = {"updates": 2, "target": 8}
    found = first_updates(run.prepare(), asked, run.spec, given, run.start)
    assert found["steps"] == 12 and found["losses"] == [row.loss for row in run.history()[:8]]


def test_progress_counts_the_part_of_a_move_that_leads_to_the_end():
    places = [[0.0, 0.0], [1.0, 5.0], [4.0, -1.0], [4.0, 0.0]]
    way = [{"x": torch.tensor(place[:1]), "y": torch.tensor(place[1:])} for place in places]
    assert progress(way) == [0, 25, 100]
    assert progress([way[0], way[0]]) == [None]


def test_directions_are_places_on_the_plane_that_holds_most_of_all_vectors():
    found = compared([{"x": torch.tensor(one)} for one in ([3.0, 4.0, 0.0], [-4.0, 3.0, 0.0], [0.0, 0.0, 0.0])])
    assert found["norms"] == [5, 5, 0] and found["cosines"][0][1] == pytest.approx(0) and found["cosines"][2][0] is None
    first, second, none = (numpy.array(one) for one in found["directions"])
    assert first @ second == pytest.approx(0) and first @ first == pytest.approx(1) and not none.any()
    alone = compared([{"x": torch.tensor([3.0, 4.0])}])
    assert alone["directions"] == [[1, 0]]


def test_table_11_has_a_column_for_each_seed_and_the_published_ones_beside(made):
    table = PLUGINS.load("table11").make(made.sweep, made.results)
    rows = {(row["quantity"], row["method"]): row for row in table.rows}
    assert {row["verdict"] for row in table.rows} == {"not comparable"}
    assert rows["gradient of A", "LoRA"]["seed 2"] == "[0.00, 0.00]"
    assert rows["gradient of A", "PiSSA"]["published"].startswith("[0, 1]; [0, 1]")
    assert rows["gradient of B", "PiSSA"]["smallest_cosine"] > 1 - 1e-6
    assert rows["progress of A after 5 updates, %", "LoRA"]["published"] == 15.94
    assert rows["loss after 5 updates", "PiSSA"]["published"] == 0.3346
    (_, pissa), key = measured(made.sweep, made), "loss at step 50"
    assert rows[key, "PiSSA"]["seed 0"] == pissa.losses()[0, -1] and rows[key, "PiSSA"]["published"] == 0.2899
    assert "| gradient of A | LoRA | [0.00, 0.00] |" in table.markdown


def test_figure_18_draws_the_losses_and_the_ways(made):
    with style.context():
        figure = PLUGINS.load("figure18").make(made.sweep, made.results)
        figure.draw_without_rendering()
    lora, pissa = measured(made.sweep, made)
    for axes, of in zip(figure.axes, (lambda one: one.losses()[:, :6], lambda one: one.progress("A"),
                                      lambda one: one.progress("B")), strict=True):  # fmt: skip
        lines = {line.get_label(): line.get_ydata() for line in axes.lines}
        numpy.testing.assert_allclose(lines["LoRA"], of(lora).mean(axis=0))
        numpy.testing.assert_allclose(lines["PiSSA"], of(pissa).mean(axis=0))
    assert "another model" in caption(figure)


def test_models_that_the_sweep_does_not_train_are_left_out_and_unknown_ones_refused(tiny_model, tiny_rows):
    sweep = sweep_of(tiny_model, tiny_rows)
    assert plan.records(sweep) == [paths.study("tiny", plan.RECORD)]
    other = Sweep(sweep.config | {"studies": {"models": ["tiny"]}})
    assert not plan.records(other)
    says(lambda: plan.spec(other, "tiny"), "config.studies.gradients.models", "unknown model 'tiny'")
    says(lambda: sweep_of(tiny_model, tiny_rows, models=["tyni"]), "gradients.models", "Did you mean 'tiny'?")
    spec = plan.spec(sweep, "tiny")
    assert list(spec["runs"]) == ["lora", "pissa"] and (spec["seeds"], spec["rows"], spec["target"]) == (5, 128, 50)


def test_a_record_of_other_settings_or_with_a_hole_is_refused(made, tmp_path):
    table, path = PLUGINS.load("table11"), paths.study("tiny", plan.RECORD, made.results)
    where = made.sweep.config["models"]["tiny"]["path"], made.sweep.config["datasets"]["rows"]["path"]
    says(lambda: table.make(sweep_of(*where, seeds=4), made.results), "spec.seeds is 3, the config says 4")
    record = read_json(path)
    record["methods"]["lora"]["runs"][1]["losses"][7] = None
    for kind in (paths.model, paths.data):
        name = "tiny" if kind is paths.model else "rows"
        write_json(kind(name, tmp_path), read_json(kind(name, made.results)))
    write_json(paths.study("tiny", plan.RECORD, tmp_path), record)
    says(lambda: table.make(made.sweep, tmp_path), "lora: losses", "no finite number")
