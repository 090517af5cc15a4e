"""List the methods and their names in tables.

    pissa methods

A method is a file of pissa_repro/methods/; a config names it in `sweep.cells`, or under `methods:` with options.
"""

from pissa_repro import methods as room
from pissa_repro.cli._table import show


def methods() -> None:
    """A method's names, and the first line of its file."""
    found = [(name, room.load(name)) for name in room.names()]
    rows = [(name, one.DISPLAY, one.QUANTIZED_DISPLAY, (one.__doc__ or "").splitlines()[0]) for name, one in found]
    show(("method", "plain", "quantized", "what it is"), rows)
