"""A config as far as it can be checked before any job: what every dry run and `pissa check` do."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pissa_repro import methods, quantizers, tasks
from pissa_repro.plan import adopted, architectures, elsewhere
from pissa_repro.plan.batches import Batches
from pissa_repro.plan.layers import replaced_by, settled
from pissa_repro.plan.reading import read
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime.errors import UserError

LONGEST_SPEC = 120_000  # bytes of a quoted spec: Linux takes 131,072 for a whole command


def checked(
    raw: Mapping[str, Any], files: Iterable[str | Path] = (), last: Mapping[str, Any] | None = None
) -> tuple[Sweep, Batches]:
    """The sweep of a config and its batches. Raises UserError for what makes no sense, also in a plug-in.

    files: those that somebody else has merged the config from, the last one wins, and `last` over them. They are read
    again: a key that is given twice, and which file gave a key, only they still know.
    """
    raw = settled(raw, replaced_by([*map(read, files), last or {}]))
    for room in (methods, quantizers, tasks):
        room.PLUGINS.check()
    sweep = Sweep(raw)
    _ = sweep.starts  # two cells that would share a folder but start differently are refused here
    adopted.check_swept(sweep.config)
    elsewhere.check_swept(sweep.config)
    architectures.check(sweep.config)
    return sweep, Batches(sweep)


def warnings(sweep: Sweep) -> list[str]:
    """What a config may mean otherwise than it says, each once: dropout on factors that are parts of the weights."""
    used = {(cell.method, dict(cell.train)["dropout"]) for cell in sweep.cells.values()}
    found = []
    for method, dropout in sorted(used):
        takes = methods.load(sweep.definition(method)["init"]).TAKES
        if takes and dropout:
            found.append(
                f"{method}: dropout {dropout:g} drops parts of the pretrained model: A and B start as {takes}, and the "
                "base is left without them. LoRA loses parts of its update only. The paper trains without dropout."
            )
    return found


def fitting(spec: str) -> str:
    """The spec, which fits into a command. Raises UserError for a longer one."""
    if (size := len(shlex.quote(spec).encode())) > LONGEST_SPEC:
        raise UserError(
            f"config: the spec of a job has {size:,} bytes, and a command holds {LONGEST_SPEC:,}. Shorten the longest "
            "lists and texts, or lower config.scoring.cells_per_engine."
        )
    return spec
