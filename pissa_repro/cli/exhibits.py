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
    found = outputs(Sweep(load(ROOT / "config" / "config.yaml")))
    said = {str(one.target): (one.exhibit.PAPER or "ours", one.exhibit.__doc__ or "") for one in found}
    rows = [(target, paper, doc.splitlines()[0]) for target, (paper, doc) in sorted(said.items())]
    show(("target", "paper", "what it shows"), rows)
