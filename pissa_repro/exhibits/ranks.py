"""Score and final loss by method and rank, as maps."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = None, "figure", "all"
NEEDS = "several ranks (config/paper_embedded.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    """Nothing where one rank is swept."""
    homes = [paths.cell(name) for name in (*sweep.cells, *sweep.others)]
    samples = [home.samples(task) for home in homes for task in sweep.config["sweep"]["tasks"]]
    return [paths.scores(), *samples] if len({cell.rank for cell in sweep.cells.values()} - {0}) > 1 else []


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.ranks import by_rank

    return by_rank(sweep, results)
