"""Draw one figure of the studies, the published numbers beside.

python -m pissa_repro.stages.study_figure --config CONFIG_JSON --results results --model MODEL --figure fig14 \
    --out figures/MODEL/fig14.svg figures/MODEL/fig14.png

fig2b, fig7a, fig14, alternations, blocks, depth: error reductions. fig3, fig9, fig10, fig11: singular
values and distributions of values. The numbers are those of the paper's figures (v4). A figure is one
function (Study) -> Figure in FIGURES; a missing record stops it.
"""

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.report.figures.reductions import alternations, blocks, depth, fig2b, fig7a, fig14
from pissa_repro.report.figures.spectra import fig3, fig9, fig10, fig11
from pissa_repro.results.study import Study
from pissa_repro.runtime.errors import run_stage, unknown

log = logging.getLogger(__name__)

FIGURES: dict[str, Callable[[Study], Figure]] = {
    "fig2b": fig2b,
    "fig3": fig3,
    "fig7a": fig7a,
    "fig9": fig9,
    "fig10": fig10,
    "fig11": fig11,
    "fig14": fig14,
    "alternations": alternations,
    "blocks": blocks,
    "depth": depth,
}


def draw(name: str, study: Study) -> Figure:
    """The figure of that name. Raises UserError for an unknown name or model, or a missing record."""
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES, "--figure")
    return FIGURES[name](study)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=json.loads, help="the config as canonical JSON")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder")
    parser.add_argument("--model", required=True, help="a model of config.studies.models")
    parser.add_argument("--figure", required=True, help=f"one of: {', '.join(FIGURES)}")
    parser.add_argument("--out", required=True, type=Path, nargs="+", help="files to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    with style.context():
        figure = draw(args.figure, Study(Sweep(args.config), args.model, args.results))
        for path in args.out:
            style.save(figure, path)
            log.info("%s", path)


if __name__ == "__main__":
    run_stage(main)
