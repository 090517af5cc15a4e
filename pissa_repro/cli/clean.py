"""List what a sweep has left and no table needs; remove it.

    pissa clean
    pissa clean --configfile config/parity.yaml --weights --yes

Each is listed with its size, and goes only with --yes: checkpoints of cells that are trained; halves of files that a
kill has left; generations that no score is made from. With --weights also the weights of full fine-tuning, once all
swept tasks are scored: another task would train such a cell again, and nothing can be exported from it. With
--decompositions also the singular vectors that are kept for further starts. What this config does not have is listed
only: give the config that has it. Never a record, never what a process has locked, never what a link leads to
elsewhere; and nothing at all while snakemake runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pissa_repro.cli._configs import Files, swept
from pissa_repro.cli._table import show

if TYPE_CHECKING:
    from pissa_repro.plan.sweep import Sweep
    from pissa_repro.results.unneeded import Unneeded


def clean(
    configfile: Files = None,
    results: Annotated[Path, typer.Option(help="The folder of records; scratch/ is beside it.")] = Path("results"),
    weights: Annotated[bool, typer.Option("--weights", help="Also weights of full fine-tuning.")] = False,
    decompositions: Annotated[bool, typer.Option("--decompositions", help="Also kept decompositions.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove, and do not only list.")] = False,
) -> None:
    """What is there, and what was done."""
    from pissa_repro.results.unneeded import ASKED_FOR, OTHERS, refuse_running

    found = unneeded(swept(configfile), results)
    asked = dict(zip(ASKED_FOR, (weights, decompositions), strict=True))
    chosen = [one for one in found if one.kind != OTHERS and asked.get(one.kind, True)]
    listed(found)
    if not chosen:
        print("Nothing to remove.")
    elif yes:
        refuse_running(results)
        print(f"Removed: {size(removed(chosen, results))}.")
    else:
        print(f"Nothing was removed. --yes removes {len(chosen)} of these, {size(sum(one.size for one in chosen))}.")


def unneeded(sweep: "Sweep", results: Path) -> "list[Unneeded]":
    """What is not needed, by kind."""
    from pissa_repro.plan.batches import Batches
    from pissa_repro.plan.jobs import jobs
    from pissa_repro.results.status import Status
    from pissa_repro.results.unneeded import KINDS, Rest
    from pissa_repro.runtime import paths
    from pissa_repro.scoring import generations

    status = Status(jobs(sweep, Batches(sweep)), results)
    rest = Rest(sweep, results, status.look())
    current = {
        generations.place(paths.cell(name, results), task, sweep.generate_spec(sweep.scored(name), task))
        for name in (*sweep.cells, *sweep.others)
        for task in sweep.config["sweep"]["tasks"]
    }
    return sorted(rest.find(current), key=lambda one: [*KINDS].index(one.kind))


def listed(found: "list[Unneeded]") -> None:
    """Print each with its size, and the sum of each kind."""
    from pissa_repro.results.unneeded import ASKED_FOR, KINDS

    if found:
        show(("kind", "size", "path"), [(one.kind, size(one.size), str(one.path)) for one in found])
    for kind, what in KINDS.items():
        some = [one.size for one in found if one.kind == kind]
        option = f" (--{kind})" if kind in ASKED_FOR else ""
        if some:
            print(f"{kind}{option}: {len(some)}, {size(sum(some))}; {what}")


def removed(chosen: "list[Unneeded]", results: Path) -> int:
    """Remove them; the bytes that this gave. What somebody has begun to work on meanwhile is said and left."""
    from pissa_repro.results.unneeded import remove
    from pissa_repro.runtime.errors import UserError

    total = 0
    for one in chosen:
        try:
            remove(one, results)
            total += one.size
        except UserError as error:
            print(f"left: {error}")
    return total


def size(count: int) -> str:
    """Bytes in a unit that fits."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}" if count < 1000 * factor else f"{count / factor:,.0f} {unit}"
    return f"{count} bytes"
