"""What a model's modules know of data: gradients of their weights, and moments of what goes into them.

Streamed block by block (blocks.py). On the device are: the model outside its blocks, one block, one row's activations,
and the sums of the modules that are measured together. On the host are the model, and what one block gave for all rows.
A row is a batch of its own, so no padding is in any sum.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from pissa_repro.model.architecture import CAUSAL, architecture
from pissa_repro.model.base import module_name, uses
from pissa_repro.model.blocks import Blocks, Notes
from pissa_repro.model.checkpoint import all_finite
from pissa_repro.model.walk import NO_LOSS, Row, Walk
from pissa_repro.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GRADIENT = "gradient"


class Measured(NamedTuple):
    """A statistic of one module, float32 on the host, and how many tokens the module saw."""

    value: torch.Tensor
    tokens: int


def row_of(model: "PreTrainedModel", ids: Sequence[int], labels: Sequence[int]) -> Row:
    """An example (training/examples.py) as the model takes it in training; its labels, shifted to the logits."""
    inputs, wanted = {"input_ids": torch.tensor([ids])}, torch.tensor([labels])
    if architecture(model.config) is CAUSAL:
        end = wanted.new_full((1, 1), NO_LOSS)
        return Row(inputs, torch.cat((wanted[:, 1:], end), dim=1))
    inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(wanted)  # type: ignore[operator]
    return Row(inputs, wanted)


def measure(
    model: "PreTrainedModel",
    rows: Sequence[Row],
    modules: Sequence[str],
    kind: str,
    device: torch.device,
    notes: Notes | None = None,
) -> Iterator[tuple[str, Measured]]:
    """A statistic of each module, by the files' names, as its block is done; of a causal model or an encoder-decoder.

    kind: "gradient": dL/dW (out, in), L the mean loss (nats) over all labelled tokens of the rows. "covariance":
    E[x x^T] (in, in), "magnitude": E[|x|] (in,), over the tokens x that a module sees. model: float32, on the host.

    notes: where work goes on after a kill; blocks that are done are then passed over, and theirs not yielded. Who takes
    a statistic has kept it when asking for the next. Raises UserError for a module that the model lacks, that shares
    its weight, or that no row reaches, and for statistics that are not finite.
    """
    if not rows:
        raise UserError("no row reached any module: there are no rows.")
    model.requires_grad_(False)
    named = {name: module_name(model, name) for name in modules}
    counts = uses(model)
    for name, module in named.items():
        if counts[id(model.get_parameter(f"{module}.weight"))] > 1:
            raise UserError(f"config.train.target_modules: {name} shares its weight with the embedding; take it out.")
    blocks = Blocks(model, rows[0].inputs, device)
    walk = Walk(blocks, rows, named, Notes() if notes is None else notes)
    for name, value, tokens in walk.backward() if kind == GRADIENT else walk.forward(kind):
        if not all_finite(value.contiguous()):
            raise UserError(f"{name}: its {kind} over the rows is not finite; the model overflows on them.")
        yield name, Measured(value.cpu(), tokens)
