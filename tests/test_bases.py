"""The base model as it is, scored by the same stages as the cells: row 0 of the tables."""

import contextlib
import csv

import pytest
import torch
from by_stages import made
from commands import pissa
from helpers import config, scored_rows
from stage import LLAMA, says

from pissa_repro import exhibits, quantizers
from pissa_repro.model import checks
from pissa_repro.model.load import load_base
from pissa_repro.model.merged import TrainedCell, merged_model
from pissa_repro.plan import config as config_module
from pissa_repro.plan.checked import checked
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.table import save
from pissa_repro.results.table import COLUMNS
from pissa_repro.results.table import rows as scores_of
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_json, write_csv, write_json


@pytest.fixture(scope="module")
def swept(tiny_model, tmp_path_factory):
    """A folder with the records of a sweep of one cell, full fine-tuning, and of two bases; and the sweep."""
    folder = tmp_path_factory.mktemp("bases").resolve()
    written = config(tiny_model, scored_rows(folder, 4), "full", "none", steps=2)
    written["sweep"]["bases"] = ["none", "nf4"]
    sweep, batches = checked(written)
    with contextlib.chdir(folder):
        made(sweep, batches)
        write_csv(paths.scores(), COLUMNS, list(scores_of(sweep, paths.RESULTS)))
    return folder, sweep


def test_it_is_collected_with_no_number_of_a_training(swept):
    folder, sweep = swept
    with open(folder / paths.scores(), newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "paper"]
    assert [row["cell"] for row in rows] == [*sweep.cells, "tiny/rows/base-none", "tiny/rows/base-nf4"]
    for row in rows[1:]:
        assert (row["trainable_parameters"], row["n"], row["seen_in_training"]) == ("0", "4", "4")
        assert {row[key] for key in ("rank", "learning_rate", "seed", "final_loss", "train_seconds")} == {""}


def test_it_is_the_first_row_of_the_table(swept):
    folder, sweep = swept
    with contextlib.chdir(folder):
        table = exhibits.output(sweep, "table", "gsm8k_table").exhibit.make(sweep, paths.RESULTS)
        save(table, folder / "out.csv")
    assert [row["method"] for row in table.rows] == ["base model", "base model (nf4)", "full FT (tested)"]
    lines = [line for line in table.markdown.splitlines() if line.startswith("| ")]
    assert lines[2].startswith("| base model |")
    assert "Base model and base model (nf4): the model (quantized" in table.markdown
    assert table.rows[0]["note"] == "not trained" and "None" not in table.markdown


def test_it_is_compared_with_a_cell(swept, capsys):
    folder, sweep = swept
    cells = folder / "results/cells"
    pissa("compare", cells / "tiny/rows/base-nf4", cells / next(iter(sweep.cells)))
    text = capsys.readouterr().out
    assert "base model, nf4 base" in text and "training: not trained / in this sweep" in text
    assert "train." not in text and "None" not in text


def test_what_is_scored_is_the_model_as_it_is_or_quantized_where_cells_have_factors(swept, tiny_model):
    folder, sweep = swept
    stored, prompts = read_json(folder / paths.model("tiny")), [[1, 5, 7], [1, 9]]
    for name, one in sweep.bases.items():
        found = merged_model(TrainedCell(sweep.trained_spec(one), None, paths.cell(name).trained), stored, prompts)
        base = load_base(tiny_model)
        for path, weight in base.named_parameters():
            if path.split(".")[-2] in LLAMA:
                weight.data = quantizers.base_weight(weight.data, None, one.quant)
        assert torch.equal(found.logits, checks.logits(base, prompts))
        assert found.checks == {"training_effect": 0.0, "merge_error": 0.0}


def test_nothing_can_be_exported_of_it(swept):
    from pissa_repro.adapters.cells import read

    says(lambda: read(swept[0] / "results/cells/tiny/rows/base-none"), "is the base as it is", "model's own folder")


def test_overrides_for_methods_do_not_touch_it_and_those_for_its_place_do(tiny_model, tmp_path):
    written = config(tiny_model, scored_rows(tmp_path), "lora", "none")
    written["sweep"]["bases"] = ["none"]
    written["overrides"] = [
        {"where": {"method": "tested"}, "set": {"dtype": "bfloat16"}, "why": "its own dtype"},
        {"where": {"dataset": "rows"}, "set": {"prompt": "plain"}, "why": "asked otherwise"},
    ]
    (one,) = Sweep(written).bases.values()
    assert one.spec(1) == {"stage": "base", "version": 1, "quant": "none", "dtype": "float32", "prompt": "plain"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bases": ["nf5"]}, ("config.sweep.bases.0", "nf5", "nf4")),
        ({"bases": []}, ("config.sweep.bases",)),
    ],
)
def test_a_quantization_that_there_is_not_is_refused(tiny_model, tmp_path, change, words):
    written = config(tiny_model, scored_rows(tmp_path), "lora", "none")
    written["sweep"] |= change
    says(lambda: config_module.check(written), *words)


def test_two_rows_of_one_name_are_refused(tiny_model, tmp_path):
    written = config(tiny_model, scored_rows(tmp_path), "lora", "none")
    written["sweep"]["bases"] = ["none"]
    written["methods"]["tested"]["display"] = "base model"
    says(lambda: Sweep(written), "config.sweep.bases", "'base model'", "the other one")


def test_every_model_has_a_row_0_of_its_own(tiny_model, tmp_path):
    written = config(tiny_model, scored_rows(tmp_path), "lora", "none")
    written["models"]["other"] = {"path": str(tiny_model)}
    written["sweep"] |= {"models": ["tiny", "other"], "bases": ["none"]}
    assert list(Sweep(written).bases) == ["tiny/rows/base-none", "other/rows/base-none"]


def test_a_base_of_other_weights_is_not_collected(swept):
    folder, sweep = swept
    with contextlib.chdir(folder):
        path = paths.cell("tiny/rows/base-none").train
        record = read_json(path)
        write_json(path, record | {"base": record["base"] | {"fingerprint": "other"}})
        try:
            says(lambda: list(scores_of(sweep, paths.RESULTS)), "other weights", "base-none")
        finally:
            write_json(path, record)
