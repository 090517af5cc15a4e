"""List the tables and figures of the studies.

pissa exhibits
"""

from pissa_repro.plan import exhibits as plan


def exhibits() -> None:
    """Their names, one per line."""
    print("\n".join(plan.TABLES + plan.FIGURES))
