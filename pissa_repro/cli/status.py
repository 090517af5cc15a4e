"""Say what of a sweep is done, runs, has failed or waits.

    pissa status
    pissa status --configfile config/parity.yaml --json

Counts for each stage of the target `all`; then what runs, with its last word; what failed, with the last line of its
log; what waits, and for what; and how long the rest takes, by finished jobs of the same kind, else by the forecast of
`pissa plan`. Tables and figures count as no time. Reads only, so that it may run beside the sweep and on a folder
without the right to write. logs/ and scratch/ are those beside --results.
"""

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pissa_repro.cli._configs import Files, swept
from pissa_repro.cli._table import columns

if TYPE_CHECKING:
    from pissa_repro.plan.jobs import Job
    from pissa_repro.plan.sweep import Sweep
    from pissa_repro.results.status import Found

MOST = 12  # jobs of a state that are named
BAR = 24  # characters
CLEAR = "\x1b[H\x1b[J"  # of a terminal: to the top left, and all below away


def status(
    configfile: Files = None,
    results: Annotated[Path, typer.Option(help="The folder of records.")] = Path("results"),
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, with bars, until all is done.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks of --watch.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="JSON: counts, and every job that is not done.")] = False,
) -> None:
    """One look, or one after the other."""
    from pissa_repro.plan.batches import Batches
    from pissa_repro.plan.jobs import jobs
    from pissa_repro.results.left import Left
    from pissa_repro.results.status import Status

    sweep = swept(configfile)
    looking = Status([*jobs(sweep, Batches(sweep)), *exhibited(sweep)], results)
    left = Left(sweep, results)
    while True:
        found = looking.look()
        left.fill(found)
        if as_json:
            print(json.dumps(told(found), indent=None if watch else 1), flush=True)
        else:
            show(found, watch)
        if not watch or all(one.finished for one in found):
            return
        time.sleep(every)


def exhibited(sweep: "Sweep") -> "list[Job]":
    """The tables and figures of the target `all` as jobs."""
    from pissa_repro.exhibits import outputs
    from pissa_repro.plan.jobs import Job
    from pissa_repro.runtime import paths

    shown = (one for one in outputs(sweep) if one.exhibit.TARGET == "all" and one.possible)
    return [
        Job("exhibit", one.place, one.target, paths.log(one.exhibit.KIND, one.place), tuple(one.needs()))
        for one in shown
    ]


def show(found: "list[Found]", watch: bool) -> None:
    """Print a look: all of it; while watching, as much as the terminal has lines."""
    if not watch:
        print("\n".join([*table(found), *details(found), total(found)]))
    elif sys.stdout.isatty():
        lines = [total(found), *bars(found), *details(found)]
        wide, high = shutil.get_terminal_size()
        print(CLEAR + "\n".join(line[: wide - 1] for line in lines[: high - 1]), flush=True)
    else:
        print(total(found), flush=True)


def table(found: "list[Found]") -> list[str]:
    """A line for each stage: how many of its jobs are in each state that occurs, and how long they take."""
    from pissa_repro.results.status import STATES

    counts, states = by_stage(found), [state for state in STATES if any(one.state == state for one in found)]
    lines = []
    for stage, count in counts.items():
        of_stage = [one for one in found if one.job.stage == stage]
        lines.append([stage, *(str(count[state] or "") for state in states), str(count.total()), _left(of_stage)])
    return columns(["stage", *states, "all", "left"], lines)


def by_stage(found: "list[Found]") -> dict[str, Counter[str]]:
    """The number of jobs in each state, by stage."""
    counts: dict[str, Counter[str]] = {}
    for one in found:
        counts.setdefault(one.job.stage, Counter())[one.state] += 1
    return counts


def bars(found: "list[Found]") -> Iterator[str]:
    """A bar for each stage, in letters that every terminal has."""
    for stage, count in by_stage(found).items():
        done = count["done"] + count["diverged"]
        full = BAR * done // count.total()
        rest = ", ".join(f"{n} {state}" for state, n in count.items() if state != "done")
        yield f"{stage:12} [{'#' * full}{'.' * (BAR - full)}] {done}/{count.total()}" + (f"  {rest}" if rest else "")


def details(found: "list[Found]") -> Iterator[str]:
    """What is to be known of single jobs, by state; and what the others wait for."""
    behind = Counter(id(one.cause) for one in found if one.cause)
    for state in ("running", "failed", "stopped", "outdated", "diverged"):
        some = [one for one in found if one.state == state]
        if some:
            yield f"{state}:"
        for one in some[:MOST]:
            waiting = f"; {behind[id(one)]} jobs wait for it" if behind[id(one)] else ""
            yield f"  {one.job.stage} {one.job.name}: {one.why}{waiting}"
        if len(some) > MOST:
            yield f"  and {len(some) - MOST} more (--json names all)"
    waits = Counter((one.job.stage, one.cause.job.stage, one.cause.state) for one in found if one.cause)
    if waits:
        yield "waiting:"
    for (stage, other, state), count in waits.items():
        yield f"  {count} {stage} for {other} ({state})"


def total(found: "list[Found]") -> str:
    """The sum: jobs done, and the time that the others take."""
    from pissa_repro.results.status import STATES

    count = Counter(one.state for one in found)
    done = f"{count['done']} of {len(found)} jobs done"
    others = [f"{count[state]} {state}" for state in STATES if state != "done" and count[state]]
    text = ", ".join([done, *others])
    if all(one.finished for one in found):
        return f"{text}; nothing is left to do."
    return f"{text}; left: {_left(found)}{_together(found)}."


def _left(found: "list[Found]") -> str:
    """How long jobs take one after the other, and how many of them nobody knows it of."""
    known = [one.left for one in found if not one.finished and one.left is not None]
    unknown = sum(not one.finished and one.left is None for one in found)
    parts = [duration(sum(known))] if any(known) else []
    return ", ".join([*parts, *([f"{unknown} jobs not known"] if unknown else [])])


def _together(found: "list[Found]") -> str:
    at_once = sum(one.state == "running" for one in found)
    seconds = sum(one.left or 0.0 for one in found if not one.finished)
    return f"; {duration(seconds / at_once)} with {at_once} at once, as now" if at_once > 1 and seconds else ""


def duration(seconds: float) -> str:
    """A time that is estimated: one unit, two digits."""
    for unit, size in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def told(found: "list[Found]") -> dict[str, Any]:
    """A look as plain types: seconds, None where they are not known."""
    known = [one.left for one in found if not one.finished and one.left is not None]
    return {
        "finished": all(one.finished for one in found),
        "states": dict(Counter(one.state for one in found)),
        "stages": {stage: dict(count) for stage, count in by_stage(found).items()},
        "left_seconds": sum(known),
        "left_not_known": sum(not one.finished and one.left is None for one in found),
        "running": sum(one.state == "running" for one in found),
        "jobs": [_job(one) for one in found if one.state != "done"],
    }


def _job(one: "Found") -> dict[str, Any]:
    cause = {"stage": one.cause.job.stage, "name": one.cause.job.name} if one.cause else None
    return {
        "stage": one.job.stage, "name": one.job.name, "state": one.state, "why": one.why, "waits_for": cause,
        "record": str(one.job.record), "log": str(one.job.log), "left_seconds": one.left,
    }  # fmt: skip
