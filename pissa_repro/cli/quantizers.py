"""List the quantizations that a cell may have.

    pissa quantizers

A quantizer is a file of pissa_repro/quantizers/; a config names one of its variants as `quant:` in `sweep.cells`.
"""

from pissa_repro import quantizers as room
from pissa_repro.cli._table import show


def quantizers() -> None:
    """The names for a config, and the first line of the file that makes them."""
    said = room.PLUGINS.lines()
    show(("quant", "what it is"), [(name, said[name.partition("-")[0]]) for name in room.names()])
