"""A sweep with an adapter of somebody else beside a cell, by the workflow: one folder, one table, no made-up number."""

import contextlib
import copy
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from by_stages import made
from commands import pissa
from helpers import config, scored_rows
from peer import START, train
from stage import says

from pissa_repro.plan.checked import checked
from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.record import read_json

BIN = Path(sys.executable).parent


def snakemake(folder, *arguments):
    command = [BIN / "snakemake", "-s", ROOT / "Snakefile", "-d", folder, "--configfile", folder / "mine.yaml"]
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run([*command, *arguments], capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def swept(tiny_model, tmp_path_factory):
    """A finished sweep of one cell, full fine-tuning, and a PiSSA adapter that PEFT trained.

    Its stages run in this process, in the workflow's order and with its specs and files: torch is loaded once. The
    adapter is then taken in, generated with and scored by the workflow.
    """
    folder = tmp_path_factory.mktemp("swept").resolve()
    trained = train(tiny_model, folder / "theirs", rate=1e-2, **START["pissa"])
    written = config(tiny_model, scored_rows(folder, 4), "full", "none", steps=3)
    written["adopted"] = {"theirs": {
        "adapter": str(trained.adapter), "init": str(trained.init), "model": "tiny", "dataset": "rows",
        "display": "Their PiSSA",
    }}  # fmt: skip
    written["sweep"]["adopted"] = ["theirs"]
    (folder / "mine.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    with contextlib.chdir(folder):
        made(*checked(written))
    snakemake(folder, "--cores", "2", "results/gsm8k_table.csv")
    return folder


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_scores_and_the_table_have_a_row_of_it(swept):
    ours, *_, theirs = rows(swept / "results/scores.csv")
    assert (ours["method"], theirs["method"]) == ("tested", "theirs")
    assert (theirs["cell"], theirs["display"]) == ("tiny/rows/theirs", "Their PiSSA (trained elsewhere)")
    unknown = "learning_rate seed final_loss error_reduction train_seconds memory_bytes gpu_memory_bytes".split()
    assert {theirs[column] for column in unknown} == {""} and {ours[c] for c in unknown[:3]}.isdisjoint({""})
    assert (theirs["rank"], theirs["trainable_parameters"], theirs["n"]) == ("4", "3584", "4")
    full, adopted = rows(swept / "results/gsm8k_table.csv")
    assert (full["config_method"], adopted["method"]) == ("tested", "Their PiSSA (trained elsewhere)")
    shown = {column: value for column, value in adopted.items() if value}
    assert shown.keys() <= {
        *"model benchmark data task method config_method rank quant n trainable_parameters unit score_mean".split(),
        *"score_stderr_items second_metric second_mean verdict note commit dirty".split(),
    }  # fmt: skip
    assert adopted["verdict"] == "not comparable" and "its recipe is not known" in adopted["note"]


def test_the_words_beside_the_table(swept):
    text = (swept / "results/gsm8k_table.md").read_text(encoding="utf-8")
    before, after = text.split("### Trained elsewhere")
    assert "Their PiSSA" not in before and "| Their PiSSA (trained elsewhere) | theirs |" in after
    assert "no difference to LoRA is taken" in after and "have a prompt that the training data have" in after
    assert not {"nan", "None", "inf"} & set(text.replace("|", " ").split())


def test_it_is_compared_item_by_item(swept, capsys):
    cells = swept / "results/cells/tiny/rows"
    pissa("compare", cells / "theirs", cells / "tested-none-r0-lr0.001-s0")
    text = capsys.readouterr().out
    assert "theirs (trained elsewhere), rank 4" in text and "the same 4 items" in text
    assert "training: trained elsewhere / in this sweep" in text
    assert "train." not in text and "None" not in text, "of an unknown setting nobody can say that it differs"


def test_commands_that_need_factors_of_ours_refuse_it(swept):
    says(lambda: pissa("card", swept / "results/cells/tiny/rows/theirs"), "was trained elsewhere", "own folder")


def test_an_edit_is_noticed_and_nothing_else_runs_again(swept):
    record = read_json(swept / "results/cells/tiny/rows/theirs/train.json")
    assert record["spec"] == {"stage": "adopt", "version": 1, "quant": "none"}
    adapter = swept / "theirs/trained/adapter_config.json"
    adapter.write_text(adapter.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    found = snakemake(swept, "-n", "results/gsm8k_table.csv")
    assert "rule adopt:" in found and "rule generate:" in found
    assert "rule train:" not in found and found.count("rule generate:") == 1, "it alone"


def test_records_of_another_adapter_are_refused(swept, tmp_path):
    """Also where Snakemake knows nothing of them: the scores say of which weights they are."""
    from pissa_repro.plan.sweep import Sweep
    from pissa_repro.results.table import rows as collected
    from pissa_repro.runtime.errors import UserError

    sweep = Sweep(yaml.safe_load((swept / "mine.yaml").read_text(encoding="utf-8")))
    path = swept / "results/cells/tiny/rows/theirs/train.json"
    kept = path.read_text(encoding="utf-8")
    other = copy.deepcopy(json.loads(kept))
    other["trained_sha256"]["adapter_model.safetensors"] = "0" * 64
    try:
        path.write_text(json.dumps(other), encoding="utf-8")
        with pytest.raises(UserError, match="made from other trained weights"):
            list(collected(sweep, swept / "results"))
    finally:
        path.write_text(kept, encoding="utf-8")
    assert len(list(collected(sweep, swept / "results"))) == 4
