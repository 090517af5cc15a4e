"""What is swept: `sweep`, and what single exhibits sweep beside it, each a product of lists. Imports no torch."""

from collections.abc import Iterator
from typing import cast

from pissa_repro.plan.sections import Config, Swept

SWEEP = "config.sweep"


def parts(config: Config) -> dict[str, Swept]:
    """The products of a config by their places in it, the sweep's first; an axis left out is the sweep's."""
    own = {f"config.exhibits.{name}": axes for name, axes in config.get("exhibits", {}).items()}
    return {SWEEP: config["sweep"]} | {place: cast("Swept", {**config["sweep"], **axes}) for place, axes in own.items()}


def pairs(config: Config) -> Iterator[tuple[str, str]]:
    """Every swept (method, quant), each once."""
    cells = (cell for swept in parts(config).values() for cell in swept["cells"])
    yield from dict.fromkeys((cell["method"], cell["quant"]) for cell in cells)


def trained_on(config: Config) -> list[str]:
    """Every dataset that is trained on, each once."""
    return list(dict.fromkeys(name for swept in parts(config).values() for name in swept["datasets"]))
