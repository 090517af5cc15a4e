"""Methods side by side: scores, cost of start and step, size of the update, what is forgotten; needs perplexity."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = None, "table", "all"
NEEDS = "a swept task of the file perplexity beside another task (config/baselines.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    """Nothing where the sweep does not score a text beside another task."""
    files = {sweep.config["tasks"][task]["task"] for task in sweep.config["sweep"]["tasks"]}
    if "perplexity" not in files or len(files) == 1:
        return []
    homes, others = ([paths.cell(name) for name in names] for names in (sweep.cells, sweep.others))
    tasks = sweep.config["sweep"]["tasks"]
    scored = [paths.scores(), *(home.samples(task) for home in (*homes, *others) for task in tasks)]
    made = [*map(paths.start, sweep.starts), *map(paths.statistics, sweep.statistic_jobs)]
    return [*scored, *(home.train for home in homes), *made]


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.baselines import baselines

    return baselines(sweep, results, "Methods side by side")
