"""Write scores of cells in the formats of other people's tools.

    pissa export-eval CELL --as peft --out for-peft
    pissa export-eval CELL --as every-eval-ever --organization "My lab" --out for-eee
    pissa export-eval CELL --as hub --benchmark owner/name --out for-the-hub

CELL is results/cells/MODEL/DATA/CELL, or several, with their records; no weight is read. peft: the JSON of PEFT's
method_comparison, an accuracy of one task. every-eval-ever: its schema 0.3.0, every metric of every task. hub:
.eval_results/TASK.yaml of a model's repository, one metric of one task, in percent.
Each number goes with its spec, seed, versions, commit, dirty flag, n and standard error, wherever the format has a
place. OUT is a new folder; nothing is sent anywhere.
"""

from pathlib import Path
from typing import Annotated

import typer


def export_eval(
    cells: Annotated[list[Path], typer.Argument(help="Folders of scored cells.")],
    form: Annotated[str, typer.Option("--as", help="peft, every-eval-ever or hub.")],
    out: Annotated[Path, typer.Option(help="The folder to write; a new one.")],
    task: Annotated[
        str | None, typer.Option(help="A task (default: the only one scored; every-eval-ever: all).")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="A metric of the record (default: paper).")] = None,
    organization: Annotated[str | None, typer.Option(help="every-eval-ever: who reports.")] = None,
    model: Annotated[str | None, typer.Option(help="every-eval-ever: hub id of what was trained.")] = None,
    benchmark: Annotated[str | None, typer.Option(help="hub: id of the dataset, for rows of another place.")] = None,
    leaderboard: Annotated[str | None, typer.Option(help="hub: the task there (default: default).")] = None,
    url: Annotated[str | None, typer.Option(help="hub: an address of the source.")] = None,
) -> None:
    """A line for each file."""
    from pissa_repro.exchange.export import Asked, export  # with what --help does not need

    asked = Asked(tuple(cells), form, out, task, metric, organization, model, benchmark, leaderboard, url)
    print("\n".join(f"{out}/{path}" for path in export(asked)))
