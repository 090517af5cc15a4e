"""How far the next-token distributions of a cell that is not trained yet lie from those of its base model."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from pissa_repro.model import factors
from pissa_repro.model.base import module_name, set_base, stores_transposed
from pissa_repro.model.load import load_base
from pissa_repro.model.skeleton import own_config
from pissa_repro.model.statistics import row_of
from pissa_repro.model.walk import NO_LOSS, Row
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.progress import track
from pissa_repro.runtime.specs import StatisticsSpec
from pissa_repro.starts.statistics import drawn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Divergence(NamedTuple):
    """KL(base model || cell), nats per token, and over how many tokens."""

    kl: float
    tokens: int


def measure(folder: str, initial: factors.Factors, quant: str, spec: StatisticsSpec, rows: Path) -> Divergence:
    """The mean divergence over the tokens that training would take the loss on, in the rows that a spec draws.

    folder: of the base model. quant: of the cell's base. One model is in memory, and the base model's logits at these
    tokens, float32 on the host. The softmax is in float64: of two near distributions little but rounding would be left.
    Raises UserError for rows as `drawn`, and for logits that are not finite.
    """
    examples, _ = drawn(folder, own_config(folder), spec, rows)
    model = load_base(folder).eval()
    seen = [row_of(model, example["input_ids"], example["labels"]) for example in examples]
    before = [_logits(model, row).cpu() for row in track(seen, "logits of the base model", len(seen))]
    _become(model, initial, quant)
    total, tokens = 0.0, 0
    for row, wanted in zip(track(seen, "logits of the start", len(seen)), before, strict=True):
        found = _logits(model, row)
        p, q = (logits.to(found.device).double().log_softmax(-1) for logits in (wanted, found))
        total += (p.exp() * (p - q)).sum().item()
        tokens += len(found)
    if not math.isfinite(total):
        raise UserError(f"the divergence of the start from {folder} is {total}: one of them overflows on the rows.")
    return Divergence(max(0.0, total / tokens), tokens)  # rounding may leave a little less than zero


@torch.no_grad()
def _logits(model: "PreTrainedModel", row: Row) -> torch.Tensor:
    """Logits (tokens, vocabulary) that predict the labelled tokens of a row."""
    device = next(model.parameters()).device
    made: torch.Tensor = model(**{key: value.to(device) for key, value in row.inputs.items()}).logits
    return made[row.labels.to(device) != NO_LOSS].float()


def _become(model: "PreTrainedModel", initial: factors.Factors, quant: str) -> None:
    """Replace W by base + s B C A in every module of the factors."""
    set_base(model, initial, quant, "float32", pack=False)
    for name, a in initial.A.items():
        module = module_name(model, name)
        weight = model.get_parameter(f"{module}.weight")
        part = factors.product(a, initial.wide(name), initial.scaling(name)).to(weight)
        weight.data += part.t() if stores_transposed(model.get_submodule(module)) else part
