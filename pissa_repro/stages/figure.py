"""Draw one figure of a sweep from its records.

python -m pissa_repro.stages.figure --config CONFIG_JSON --scores results/scores.csv --results results \
    --figure NAME --out figures/NAME.svg figures/NAME.png

loss, grad_norm: mean over seeds of every training step, with an inset of the first steps (paper,
Figures 4a, 4b, 5a, 5b, 16, 17). accuracy: the mean score of each method with its errors, a panel a task,
in the task's unit. A figure is one function (sweep, scores, results) -> Figure in FIGURES; a missing
record stops it.
"""

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.report.figures.scores import accuracy
from pissa_repro.report.figures.steps import grad_norm, loss
from pissa_repro.runtime.errors import run_stage, unknown

log = logging.getLogger(__name__)
FIGURES: dict[str, Callable[[Sweep, Path, Path], Figure]] = {
    "loss": loss,
    "grad_norm": grad_norm,
    "accuracy": accuracy,
}


def draw(name: str, sweep: Sweep, scores: Path, results: Path) -> Figure:
    """The figure of that name. Raises UserError for an unknown name or a missing record."""
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES, "--figure")
    return FIGURES[name](sweep, scores, results)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=json.loads, help="the config as canonical JSON")
    parser.add_argument("--scores", required=True, type=Path, help="the table of all scores, scores.csv")
    parser.add_argument("--results", required=True, type=Path, help="the folder that holds cells/")
    parser.add_argument("--figure", required=True, help=f"one of: {', '.join(FIGURES)}")
    parser.add_argument("--out", required=True, type=Path, nargs="+", help="files to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    with style.context():
        figure = draw(args.figure, Sweep(args.config), args.scores, args.results)
        for path in args.out:
            style.save(figure, path)
            log.info("%s", path)


if __name__ == "__main__":
    run_stage(main)
