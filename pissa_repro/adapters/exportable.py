"""What an export is asked for, and what a cell cannot be exported as."""

from dataclasses import dataclass
from pathlib import Path

from pissa_repro.adapters.cell_card import WHAT
from pissa_repro.adapters.cells import StoredCell
from pissa_repro.adapters.parts import Parts
from pissa_repro.model import whole
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.record import refuse_existing, refuse_no_space

BASES = ("bf16", "trained")


@dataclass(frozen=True)
class Asked:
    """An export. form: one of cell_card.WHAT; base: of a quantized cell, one of BASES; rank: of an approximate LoRA.

    dtype: of whole weights; None: as the base model stores them. check: whether logits are compared.
    """

    cell: StoredCell
    form: str
    out: Path
    base: str | None = None
    dtype: str | None = None
    rank: int | None = None
    check: bool = True

    @property
    def exact(self) -> bool:
        """Whether the form is the trained cell but for rounding."""
        return self.rank is None and (self.cell.spec["quant"] == "none" or self.base != "bf16")


def refuse(asked: Asked) -> None:
    """Raise UserError for what the arguments alone show, and for an OUT that exists."""
    spec, say = asked.cell.spec, f"CELL {asked.cell.folder}"
    if asked.form not in WHAT:
        raise unknown("form", asked.form, WHAT, "--as")
    if asked.base not in (None, *BASES):
        raise unknown("base", asked.base, BASES, "--base")
    if asked.dtype not in (None, *whole.DTYPES):
        raise unknown("dtype", asked.dtype, whole.DTYPES, "--dtype")
    refuse_existing(asked.out)
    if spec["init"] is None:
        raise UserError(f"{say}: was fully fine-tuned; its trained/ is the whole model already.")
    if asked.rank is not None and asked.form != "lora":
        raise UserError(f"--rank {asked.rank}: goes with --as lora alone.")
    if asked.base and (spec["quant"] == "none" or asked.form not in ("lora", "merged")):
        raise UserError(f"--base {asked.base}: goes with --as lora and merged of a cell on a quantized base alone.")
    if asked.dtype and asked.form not in ("merged", "residual"):
        raise UserError(f"--dtype {asked.dtype}: goes with --as merged and residual; factors stay float32.")
    if spec["quant"] != "none" and asked.form in ("lora", "merged") and asked.base is None:
        raise UserError(
            f"{say}: was trained on a base quantized to {spec['quant']}. Say --base bf16 for the model in full "
            "precision (what its quantization changed is lost), or --base trained for the base as it was trained on."
        )


def refuse_factors(asked: Asked, parts: Parts) -> None:
    """Raise UserError where the factors have no such form, and where the disk has no room for it."""
    spec, say = asked.cell.spec, f"CELL {asked.cell.folder}"
    if asked.cell.head and asked.base == "bf16":
        raise UserError(f"{say}: its head for classes was trained on the quantized base: --base trained.")
    if parts.whole and ((asked.form == "merged" and not asked.cell.head) or asked.rank is not None):
        raise UserError(
            f"{say}: {len(parts.whole)} parameters of the base were trained too (bias, modules_to_save); this form has "
            "no place for them: --as lora on a plain base, else --as residual. PEFT's merge_and_unload() merges either."
        )
    if parts.dora and (asked.form == "lora" or asked.base == "bf16"):
        on = "" if spec["quant"] == "none" else " --base trained"
        raise UserError(
            f"{say}: was trained with DoRA, whose magnitudes are no plain LoRA and belong to the base as it was "
            f"trained on: --as merged{on}, or --as residual."
        )
    if asked.form == "lora" and spec["quant"] != "none" and asked.base == "trained" and parts.initial.offset:
        raise UserError(
            f"{say}: its base is quantize(W - what was taken out), which no tool makes of the untouched model: "
            "--as residual."
        )
    if asked.rank is not None and not 1 <= asked.rank <= parts.rank:
        raise UserError(f"--rank {asked.rank}: the change has rank {parts.rank} at most, so 1 to {parts.rank}.")
    needed = 2 * parts.size  # a LoRA of twice the rank, or adapter and start
    if asked.form in ("merged", "residual"):
        needed += sum(shard.size for shard in whole.shards(asked.cell.model["path"], asked.dtype))
    refuse_no_space(asked.out, needed)
