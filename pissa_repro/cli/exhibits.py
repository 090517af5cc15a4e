"""List the tables and figures of the studies.

    pissa exhibits

They are targets of snakemake: results/studies/<model>/<table>.csv and figures/<model>/<figure>.svg.
"""

from pissa_repro.plan import exhibits as plan


def exhibits() -> None:
    """Their names, one per line."""
    print("\n".join(plan.TABLES + plan.FIGURES))
