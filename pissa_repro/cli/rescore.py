"""Apply today's answer rules to old scores, without a model.

    pissa rescore results/cells/*/*/*/eval/gsm-mini.json

Reads the samples beside each record and writes both anew; says how many items have changed.
"""

from pathlib import Path
from typing import Annotated

import typer


def rescore(
    records: Annotated[list[Path], typer.Argument(help="Records of scores: .../eval/<task>.json.")],
    data: Annotated[Path | None, typer.Option(help="The test rows (default: found by their hash).")] = None,
) -> None:
    """A line for each record."""
    from pissa_repro.scoring import score  # with torch, which --help does not need

    for path in records:
        print(score.rescore(path, data), flush=True)
