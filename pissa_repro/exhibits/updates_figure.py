"""Size of the update by projection type, and its singular values."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = None, "figure", "studies"
NEEDS = "studies.trained"


def parts(sweep: Sweep) -> dict[str, Sweep]:
    return {"extra/updates": sweep}


def needs(sweep: Sweep) -> list[Path]:
    return [paths.cell(cell.name).updates for cell in studies.moved(sweep)]


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.updates import updates

    return updates(sweep, results)
