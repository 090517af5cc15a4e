"""`sharding: auto`: the cards of a training share the weights where one has no room for them; the log says why."""

import logging
import re

import pytest
from helpers import Run, config
from stage import says

from pissa_repro.model.size import of_folder
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.sizes import size_of
from pissa_repro.runtime import gpus, processes, walltime
from pissa_repro.stages import train
from pissa_repro.training import memory

A800, CONSUMER = 80 * 2**30, 24 * 2**30


@pytest.fixture(scope="module")
def real() -> Sweep:
    return Sweep(load(ROOT / "config/config.yaml", ROOT / "config/paper.yaml"))


@pytest.mark.parametrize(
    ("method", "quant", "card", "way"),
    [
        ("full", "none", A800, "full"), ("lora", "none", A800, "none"), ("pissa", "none", CONSUMER, "full"),
        ("pissa", "nf4", CONSUMER, "none"), ("full", "none", 10 * A800, "none"),
    ],
)  # fmt: skip
def test_a_7b_is_shared_where_a_card_has_no_room(real, tmp_path, method, quant, card, way):
    size = size_of(real, "llama-2-7b", tmp_path)
    cells = (cell for cell in real.cells.values() if cell.model == "llama-2-7b")
    cell = next(cell for cell in cells if (cell.method, cell.quant) == (method, quant))
    found, why = memory.chosen(size, real.train_spec(cell), 8, card)
    assert found == way and why.startswith(f"sharding: {way}. ")
    whole, each, of = (float(one) for one in re.findall(r"(\S+) GB", why))
    assert of == pytest.approx(card / 1e9, rel=0.01) and (whole > 0.8 * of) == (way == "full") and each < 0.8 * of
    assert "hardly" not in why


def test_what_no_cards_hold_is_said(real, tmp_path):
    cell = next(cell for cell in real.cells.values() if (cell.model, cell.method) == ("llama-2-7b", "full"))
    way, why = memory.chosen(size_of(real, "llama-2-7b", tmp_path), real.train_spec(cell), 2, CONSUMER)
    assert way == "full" and why.endswith("It will hardly fit.")


@pytest.mark.parametrize("fits", [True, False])
def test_a_launcher_chooses_for_its_processes(tmp_path, tiny_model, tiny_rows, monkeypatch, caplog, fits):
    run, commands = Run(tmp_path, tiny_model, tiny_rows, "full"), []
    needed = memory.held(of_folder(tiny_model), None, "none", "float32", cards=2)
    monkeypatch.setattr(gpus, "take", lambda count: None)
    monkeypatch.setattr(gpus, "smallest", lambda: int(needed * (1.3 if fits else 1.2)))
    monkeypatch.setattr(walltime, "ignored", lambda: None)
    monkeypatch.setattr(processes, "run", lambda command, count, locks: commands.append(command))
    caplog.set_level(logging.INFO)
    train.main(run.train_argv("--sharding", "auto", "--gpus", "2"))
    (command,), way = commands, "none" if fits else "full"
    assert train.arguments(command[3:]).sharding == way and f"sharding: {way}. " in caplog.text


def test_processes_of_somebody_else_are_told_to_choose(tmp_path, tiny_model, tiny_rows, monkeypatch):
    run = Run(tmp_path, tiny_model, tiny_rows, "full")
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "end_with_launcher", lambda: None)
    says(lambda: train.main(run.train_argv("--sharding", "auto")), "--sharding auto", "Choices: none, full")


def test_one_card_may_be_told_to_choose(tiny_model, tiny_rows):
    given = config(tiny_model, tiny_rows, "full", "none")
    given["models"]["tiny"] |= {"sharding": "auto", "gpus": 1}
    (cell,) = Sweep(given).cells.values()
    assert "sharding" not in str(Sweep(given).train_spec(cell))
