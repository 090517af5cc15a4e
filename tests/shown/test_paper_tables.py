"""Tables 2, 5, 7 and 10: ours beside the printed numbers, from records that are made by hand."""

import copy
import shutil

import pytest
from recorded import ITEMS, loss_of, record, right

from pissa_repro.exhibits import output
from pissa_repro.paper import printed
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json, write_json


def made(sweep, folder, name):
    one = output(sweep, "table", f"paper/{name}")
    return one.exhibit.make(one.sweep, folder)


def test_a_row_for_each_method_and_the_printed_rows_below(swept, recorded):
    table = made(swept, recorded, "table2")
    ours, theirs = table.rows[:3], table.rows[3:]
    assert [row["method"] for row in ours] == ["full FT", "LoRA", "PiSSA"]
    for row in ours:
        cells = [c for c in swept.cells.values() if c.method == row["config_method"] and c.quant == "none"]
        cells = [cell for cell in cells if cell.rank in (0, 16)]
        shares = [100 * right(cell, "gsm-mini") / ITEMS for cell in cells]
        assert row["gsm-mini"] == pytest.approx(sum(shares) / 3) and row["seeds"] == 3
        assert row["gsm8k"] is None and row["gsm8k published"] is None  # nothing is not 0
    assert len(theirs) == 12 and all(row["gsm-mini"] is None and row["gsm8k verdict"] is None for row in theirs)
    pissa = next(row for row in theirs if (row["model"], row["method"]) == ("LLaMA-2-7B", "PiSSA"))
    assert (pissa["gsm8k published"], pissa["gsm8k published std"], pissa["mt_bench published"]) == (53.22, 0.55, 4.88)
    assert "(53.22 ± 0.55)" in table.markdown and " 0.00 " not in table.markdown.split("In percent")[1]


def test_of_one_seed_no_spread_is_said(swept, recorded):
    table = made(swept, recorded, "table5")
    assert len(table.rows) == 12
    for row in table.rows[:6]:
        assert row["seeds"] == 1 and row["gsm-mini std"] is None
    methods = [row["method"] for row in table.rows[6:]]
    assert methods == ["LoRA", "PiSSA", "LoRA + DoRA", "PiSSA + DoRA", "AdaLoRA", "PiSSA + AdaLoRA"]


def test_the_loss_and_the_type_of_the_weights_stand_in_table_7(swept, recorded):
    rows = made(swept, recorded, "table7").rows
    ours = {row["dtype"]: row for row in rows[:2]}
    assert set(ours) == {"float32", "bfloat16"}
    cell = next(cell for cell in swept.cells.values() if cell.method == "full-bf16")
    assert ours["bfloat16"]["final loss"] == pytest.approx(loss_of(cell))
    assert [row["final loss published"] for row in rows[2:4]] == [0.1532, 0.1316]
    assert len(rows) == 2 + 8


def linked(dtype="float32"):
    """The default sweep, said to be the paper's LLaMA-2-7B on GSM8K."""
    config = copy.deepcopy(load(ROOT / "config/config.yaml"))
    config["models"]["mini-llama"]["paper"] = "llama-2-7b"
    config["datasets"]["gsm-mini-train"]["paper"] = "metamath-100k"
    config["tasks"]["gsm-mini"]["paper"] = "gsm8k"
    config["train"]["dtype"] = dtype
    return Sweep(config)


def test_a_printed_row_stands_beside_ours_of_the_same_model_and_method(tmp_path):
    sweep = linked()
    record(sweep, tmp_path)
    table = made(sweep, tmp_path, "table2")
    assert len(table.rows) == 12  # 3 of them with ours
    row = next(row for row in table.rows if row["method"] == "PiSSA")
    assert row["gsm8k"] is not None and row["gsm8k published"] == 53.22 and row["gsm8k verdict"] == "not comparable"
    assert row["note"].startswith("gsm8k: ")
    assert "(53.22 ± 0.55) not comparable" in table.markdown


def test_tasks_of_one_benchmark_have_a_column_each(tmp_path):
    sweep = linked()
    sweep.config["tasks"]["again"] = sweep.config["tasks"]["gsm-mini"] | {"max_new_tokens": 8}
    sweep.config["sweep"]["tasks"] = ["gsm-mini", "again"]
    record(sweep, tmp_path)
    table = made(sweep, tmp_path, "table2")
    cells = [cell for cell in sweep.cells.values() if (cell.method, cell.quant) == ("pissa", "none")]
    row = next(row for row in table.rows if row["method"] == "PiSSA")
    for task in ("gsm-mini", "again"):
        share = sum(100 * right(cell, task) / ITEMS for cell in cells) / len(cells)
        assert row[f"gsm8k (task {task})"] == pytest.approx(share) and row[f"gsm8k (task {task}) published"] == 53.22
        assert f"| gsm8k (task {task}) |" in table.markdown


def test_a_missing_cell_leaves_its_seed_out_and_is_named(swept, recorded, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(recorded, folder)
    name = next(name for name, cell in swept.cells.items() if cell.method == "pissa" and cell.seed == 2)
    paths.cell(name, folder).train.unlink()
    table = made(swept, folder, "table2")
    row = next(row for row in table.rows if row["method"] == "PiSSA")
    assert row["seeds"] == 2
    assert "Missing, without a record: PiSSA rank 16 seed 2 on mini-llama." in table.markdown
    shutil.rmtree(paths.cells(folder))
    with pytest.raises(UserError, match="no such record of any of 9 cells"):
        made(swept, folder, "table2")


def test_a_record_of_another_config_is_refused(swept, recorded, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(recorded, folder)
    path = paths.cell(next(iter(swept.cells)), folder).train
    write_json(path, read_json(path) | {"spec": {"stage": "train"}})
    with pytest.raises(UserError, match="was made from another config"):
        made(swept, folder, "table2")


def test_table_10_is_the_papers_settings_and_asks_for_nothing(swept, tmp_path):
    one = output(swept, "table", "paper/table10")
    assert one.needs() == [] and one.possible
    rows = one.exhibit.make(swept, tmp_path).rows
    assert len(rows) == 8 * 3
    assert {"task": "sst2", "method": "pissa", "epochs": 20, "batch": 16, "lr": 3e-5, "alpha": 8}.items() <= rows[
        3
    ].items()


def test_every_printed_model_and_method_has_a_name():
    for rows in (printed.language_generation, printed.combinations, printed.precisions):
        assert all(one.model in printed.MODELS and one.values for one in rows())
