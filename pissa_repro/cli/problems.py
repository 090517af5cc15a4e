"""Print gsm-mini (generated) word problems as JSON lines.

    pissa problems --split test --rows 5

Word problems of two to four steps in the schema of GSM8K (question, answer; `<<a=b>>` calculator annotations; a last
line `#### N`). It is not GSM8K.

The split of a problem follows from its text, so splits are disjoint whatever the seed or the number of rows: names and
things are masked, the rest is hashed, and the hash falls to one split. A test problem is therefore not even a train
problem with another name in it.
"""

import json
from typing import Annotated

import typer

from pissa_repro.embedded.problems import SPLITS, generate


def problems(
    split: Annotated[str, typer.Option(help=f"One of: {', '.join(SPLITS)}.")],
    rows: Annotated[int, typer.Option(help="How many.")],
    seed: Annotated[int, typer.Option(help="Another seed, other problems.")] = 0,
) -> None:
    """A line for each problem."""
    try:
        found = generate(split, rows, seed)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    for problem in found:
        print(json.dumps(problem))
