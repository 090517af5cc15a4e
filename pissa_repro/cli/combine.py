"""Combine LoRA adapters of one base into one.

    pissa combine LORA OTHER --weights 0.5 --weights 0.5 --how svd --out BOTH
    pissa combine LORA OTHER --weights 1 --weights 1 --how dare_ties_svd --density 0.5 --rank 8 --out SPARSE

PEFT's add_weighted_adapter, without the model: plain or converted LoRA adapters of the same untouched base. Adapters on
residuals (PiSSA, OLoRA) are refused: convert them first. cat is exact, at the sum of the ranks; svd is the best
approximation of the weighted sum by its --rank; linear and those like it weigh A and B one by one, at equal ranks.
OUT is a new PEFT folder with a model card, its factors in float32. --check loads the base and compares logits with
PEFT's own combination there.
"""

from pathlib import Path
from typing import Annotated

import typer


def combine(
    adapters: Annotated[list[Path], typer.Argument(help="Folders of two or more adapters.")],
    weights: Annotated[list[float], typer.Option(help="One for each adapter, in their order.")],
    out: Annotated[Path, typer.Option(help="The folder to write; a new one.")],
    how: Annotated[str, typer.Option(help="svd, cat, linear, ties, dare_linear, dare_ties, magnitude_prune; ..._svd.")],
    density: Annotated[float | None, typer.Option(help="The share of values that pruning keeps.")] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of an SVD (default: the largest of the adapters').")] = None,
    seed: Annotated[int, typer.Option(help="Seed of dare's random numbers.")] = 0,
    base: Annotated[str | None, typer.Option(help="Hub id of the model that OUT belongs on.")] = None,
    check: Annotated[Path | None, typer.Option(help="Folder of that model, to compare logits.")] = None,
) -> None:
    """A few lines on what was written."""
    from pissa_repro.adapters.combine import Asked
    from pissa_repro.adapters.combine import combine as run  # with torch, which --help does not need
    from pissa_repro.adapters.weighted import Recipe

    asked = Asked(adapters, out, Recipe(how, weights, density, rank, seed), base, check)
    print("\n".join([*run(asked), f"Written: {out}"]))
