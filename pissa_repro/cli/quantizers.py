"""List the quantizations that a cell may have.

    pissa quantizers

A config names one as `quant:` in `sweep.cells`; `none` is the plain base.
"""

from pissa_repro.plan.config import QUANTS


def quantizers() -> None:
    """Their names, one per line."""
    print("\n".join(QUANTS))
