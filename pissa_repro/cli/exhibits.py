"""List the tables and figures, with the paper's names for them.

    pissa exhibits

They are targets of snakemake, those of config/config.yaml. The paper's names are those of its version 4.
"""

from pissa_repro.cli._table import show
from pissa_repro.exhibits import outputs
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep


def exhibits() -> None:
    """Target, the paper's name, and the first line of the exhibit's file."""
    known = outputs(Sweep(load(ROOT / "config" / "config.yaml")))
    said = {str(output.target): (output.exhibit.PAPER or "ours", output.exhibit.__doc__ or "") for output in known}
    rows = [(target, paper, doc.splitlines()[0]) for target, (paper, doc) in sorted(said.items())]
    show(("target", "paper", "what it shows"), rows)
