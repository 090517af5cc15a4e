"""A config as far as it can be checked before any job: what every dry run and `pissa check` do."""

from collections.abc import Mapping
from typing import Any

from pissa_repro import methods, quantizers, tasks
from pissa_repro.plan.batches import Batches
from pissa_repro.plan.sweep import Sweep


def checked(raw: Mapping[str, Any]) -> tuple[Sweep, Batches]:
    """The sweep of a config and its batches. Raises UserError for what makes no sense, also in a plug-in."""
    for room in (methods, quantizers, tasks):
        room.PLUGINS.check()
    sweep = Sweep(raw)
    _ = sweep.starts  # two cells that would share a folder but start differently are refused here
    return sweep, Batches(sweep)
