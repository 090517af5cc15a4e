"""Gradients at the start and the first updates, by method and seed: Table 11 and Figure 18. Imports no torch.

The models are those of `studies.gradients` that the studies and the sweep have, too; the setting is the sweep's first:
its first dataset, rank and learning rate, and the recipe of `train`, on a plain base.
"""

from pathlib import Path

from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import unknown
from pissa_repro.runtime.study_specs import GradientsSpec

VERSION = 1  # raised when the code of the stage changes what comes out of it
METHODS = ("lora", "pissa")
SEEDS, ROWS, UPDATES, TARGET = 5, 128, 5, 50  # of the paper (Appendix M)
RECORD = "gradients.json"


def models(sweep: Sweep) -> list[str]:
    """The models that the study is of, in the order of the studies."""
    asked = sweep.config["studies"].get("gradients")
    swept = sweep.config["sweep"]["models"]
    return [name for name in sweep.config["studies"]["models"] if asked and name in asked["models"] and name in swept]


def records(sweep: Sweep) -> list[Path]:
    """The record of every such model."""
    return [paths.study(model, RECORD) for model in models(sweep)]


def data(sweep: Sweep) -> str:
    """The dataset whose rows are trained on."""
    return sweep.config["sweep"]["datasets"][0]


def spec(sweep: Sweep, model: str) -> GradientsSpec:
    """Spec of the study of a model. Raises UserError for one that it is not of."""
    if model not in models(sweep):
        raise unknown("model", model, models(sweep), "config.studies.gradients.models")
    asked, swept = sweep.config["studies"]["gradients"], sweep.config["sweep"]
    first = {axis: swept[axis][:1] for axis in ("datasets", "ranks", "learning_rates")}
    cells = [{"method": method, "quant": "none"} for method in METHODS]
    part = sweep.narrowed(**first, models=[model], cells=cells, seeds=[0])
    return {
        "stage": "gradients",
        "version": VERSION,
        "seeds": asked.get("seeds", SEEDS),
        "rows": asked.get("rows", ROWS),
        "updates": UPDATES,
        "target": TARGET,
        "runs": {cell.method: part.train_spec(cell) for cell in part.cells.values()},
    }
