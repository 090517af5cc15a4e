"""List the benchmarks with their metrics and what they read.

    pissa tasks

A benchmark is an lm-eval task file in pissa_repro/tasks/; a config names it as `task:` under `tasks:`.
"""

from pissa_repro import tasks as room
from pissa_repro.cli._table import show


def tasks() -> None:
    """A task file's metrics, the published rule first, their unit, and the fields of a dataset that it reads."""
    rows = []
    for name in room.names():
        said = room.metadata(name)
        rows.append((name, ", ".join(room.metrics(name)), said["unit"], ", ".join(said["fields"])))
    show(("task", "metrics", "unit", "fields"), rows)
