"""List the tables and figures: what to ask Snakemake for, what the paper calls it, what it shows."""

from pissa_repro.exhibits import outputs
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep


def exhibits() -> None:
    """List the tables and figures of config/config.yaml: target, the paper's name (version 4), what it shows."""
    rows = [
        (str(one.target), one.exhibit.PAPER or "ours", (one.exhibit.__doc__ or "").splitlines()[0])
        for one in outputs(Sweep(load(ROOT / "config" / "config.yaml")))
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:2]
    for target, paper, about in sorted(rows):
        print(f"{target:{widths[0]}}  {paper:{widths[1]}}  {about}")
