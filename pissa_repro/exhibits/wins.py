"""Every method against every other one on its base, Holm's correction over all pairs."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.least import FEWEST
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = None, "table", "all"
NEEDS = "four methods on one base (config/baselines.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    """Nothing where every base has few methods: the table of differences to LoRA then shows all."""
    counts = Counter(cell["quant"] for cell in sweep.config["sweep"]["cells"])
    homes = [paths.cell(name) for name in (*sweep.cells, *sweep.others)]
    samples = [home.samples(task) for home in homes for task in sweep.config["sweep"]["tasks"]]
    return [paths.scores(), *samples] if max(counts.values()) >= FEWEST else []


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.wins import wins

    return wins(sweep, results, "Every method against every other one")
