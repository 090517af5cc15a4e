"""The scored cells of the embedded sweep."""

import pytest
from scored_cells import SHARE, answers, samples, write

from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep


@pytest.fixture(scope="session")
def sweep():
    return Sweep(load(ROOT / "config/config.yaml"))


@pytest.fixture
def cells(tmp_path, sweep):
    """The LoRA and PiSSA cells of the embedded sweep, three seeds each: {"lora": path without seed, ...}."""
    for cell in sweep.cells.values():
        if cell.method in SHARE and cell.quant == "none":
            write(
                tmp_path / "cells" / cell.name,
                sweep.evaluate_spec(cell, "gsm-mini"),
                samples(answers(cell.method, cell.seed), strict=answers(cell.method, cell.seed) * 0),
                ("paper", "strict"),
            )
    place = tmp_path / "cells" / "mini-llama" / "gsm-mini-train"
    return {method: place / f"{method}-none-r16-lr0.003" for method in SHARE}
