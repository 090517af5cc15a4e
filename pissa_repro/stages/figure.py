"""Draw one figure from its records.

python -m pissa_repro.stages.figure --config CONFIG_JSON --results results --place paper/figure14 \
    --out figures/paper/figure14.svg figures/paper/figure14.png

A missing record stops it. Which figures there are: pissa_repro/exhibits/.
"""

import logging

from matplotlib.figure import Figure

from pissa_repro import exhibits
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.runtime.errors import run_stage
from pissa_repro.stages.options_exhibit import exhibit_options

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    args = exhibit_options(__doc__, "files to write: .svg, .png or .pdf").parse_args(argv)
    output = exhibits.output(Sweep(args.config), "figure", args.place)
    with style.context():
        figure = output.exhibit.make(output.sweep, args.results)
        assert isinstance(figure, Figure)  # an exhibit whose KIND is figure
        for path in args.out:
            style.save(figure, path)
            log.info("%s", path)


if __name__ == "__main__":
    run_stage(main)
