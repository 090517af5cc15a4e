"""A trained cell in the forms that other tools load: a plain LoRA, a merged model, a residual with its adapters."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pissa_repro.adapters import cell_card, classifier, folder, logits, lowrank, trained
from pissa_repro.adapters.cells import StoredCell
from pissa_repro.adapters.exportable import Asked, refuse, refuse_factors
from pissa_repro.adapters.parts import Parts
from pissa_repro.model import factors, whole
from pissa_repro.model.merged import Merged, merged_model
from pissa_repro.model.naming import natural
from pissa_repro.model.peft_words import ONLY_FACTORS
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import atomic, atomic_folder, read_json, sha256, write_json

EXACT = 1e-4  # |difference| / |logits| of an exact form where training and weights are in float32
ROUNDED = 2.0**-6  # where they are rounded to another dtype: four times bfloat16's half step
LOST = 0.5  # |difference| / what the training has moved the logits by: from here on, a form has lost the training
BESIDE = cell_card.BESIDE  # the folder of the trained adapter beside a residual
HOLDS = {  # what may show a training that is smaller than the rounding, by what is exported
    "lora": "--as residual --dtype float32 (its base was rounded in training, the model that a LoRA belongs on is not)",
    **dict.fromkeys(("merged", "residual"), "--dtype float32"),
}
NO_PATTERNS: dict[str, Any] = {"rank_pattern": {}, "alpha_pattern": {}}
Written = tuple[Path, Path | None]  # the model and the adapter on it that others load; None: whole weights


class Known(NamedTuple):
    """The trained cell's logits after logits.prompts, and how far the training has moved them, relative."""

    logits: torch.Tensor
    effect: float


def known_of(merged: Merged) -> Known:
    """What an export is compared with, without the model that it was computed by."""
    return Known(merged.logits, merged.checks["training_effect"])


def export(asked: Asked, known: Known | None = None) -> list[str]:
    """Write the folder; returns what is to be said of it, a line each.

    known: the trained cell's logits after logits.prompts, where they are computed already.
    Raises UserError for a form that the cell does not have, before anything is written, and where the logits differ
    from the trained cell's by more than rounding.
    """
    refuse(asked)
    parts = Parts(asked.cell.left, asked.cell.spec["settings"]["dtype"])
    refuse_factors(asked, parts)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(asked.out) as unfinished:
        written, lines = FORMS[asked.form](asked, parts, unfinished)
        if asked.check and written:
            lines.append(_compared(asked, written, known))
        with atomic(unfinished / "README.md") as file:
            file.write(cell_card.exported(asked.cell.left, asked.form, unfinished, asked.out.name, lines))
    return lines


def _lora(asked: Asked, parts: Parts, out: Path) -> tuple[Written | None, list[str]]:
    """A plain LoRA: stacked, or the best of a lower rank."""
    base, quant = Path(asked.cell.model["path"]), asked.cell.spec["quant"]
    if asked.rank is not None:
        made, lost = lowrank.truncated(parts.updates(), asked.rank)
        _write_adapter(
            asked, parts, out, made, {"r": asked.rank, "lora_alpha": asked.rank, "use_rslora": False} | NO_PATTERNS
        )
        lines = [f"Rank {asked.rank} leaves out {100 * lost:.2g} % of the change that the training made (Frobenius)."]
    else:
        trained.write_plain(asked.cell.left, out)
        classifier.write_classes(asked.cell, out)
        lines = ["The factors are stacked, nothing is rounded."]
    if quant == "none":
        return (base, out), lines
    if asked.base == "trained":
        return None, [
            *lines,
            f"It belongs on the base model quantized to {quant}, which your tool makes: not compared.",
        ]
    return (base, out), [*lines, _lost(quant)]


def _lost(quant: str) -> str:
    return f"It was trained on a base quantized to {quant}; what that quantization changed in the weights is lost."


def _merged(asked: Asked, parts: Parts, out: Path) -> tuple[Written, list[str]]:
    """One model: base + sBA in the place of W, and the trained head where it gives classes."""
    if asked.cell.head:
        dtype = asked.dtype or stored_dtype(asked.cell.model["path"])
        classifier.write_merged(asked.cell, out, dtype)
        return (out, None), []
    make = parts.changed if asked.base == "bf16" else parts.merged
    _write_model(asked, parts, out, make)
    return (out, None), [_lost(asked.cell.spec["quant"])] if asked.base == "bf16" else []


def _residual(asked: Asked, parts: Parts, out: Path) -> tuple[Written, list[str]]:
    """The base as it was trained on, dequantized, with the trained adapter and its start."""
    _write_model(asked, parts, out, parts.base)
    init = f"{asked.cell.spec['method']}_init"
    _peft_start(asked, parts, out / init)
    write_raw(asked.cell, out / BESIDE)
    return (out, out / BESIDE), [f"Load {BESIDE}/ on these weights; {init}/ is the adapter before the training."]


def write_raw(cell: StoredCell, out: Path) -> None:
    """The trained factors as a PEFT adapter in a new folder. It belongs on the residual, not on the model itself."""
    inside = factors.trained_factors(cell.trained)
    out.mkdir()
    if "trained" in factors.belongs_of(inside):
        parts = Parts(cell.left)
        trained.write_pairs(out, {name: parts.trained(own)[:2] for own, name in parts.names.items()}, parts)
    else:
        shutil.copyfile(inside / factors.FACTORS, out / folder.ADAPTER)
    write_json(out / folder.CONFIG, read_json(inside / factors.CONFIG) | trained.SAVED | {"init_lora_weights": True})
    _write_base(cell, out)
    classifier.write_classes(cell, out)


def _write_base(cell: StoredCell, out: Path) -> None:
    """base.json beside an adapter that belongs on the residual: by its tensors alone it could be a plain LoRA."""
    known = factors.belongs_of(factors.trained_factors(cell.trained))
    kept = {key: value for key, value in known.items() if key not in ("start", "sha256", "trained")}
    write_json(out / factors.BASE, kept | {"adapter_sha256": sha256(out / folder.ADAPTER)})


def _init(asked: Asked, parts: Parts, out: Path) -> tuple[None, list[str]]:
    """The start as PEFT writes it, for tools that subtract it."""
    _peft_start(asked, parts, out)
    return None, ["A and B before the training. They belong on the residual (--as residual), not on the model itself."]


def _peft_start(asked: Asked, parts: Parts, out: Path) -> None:
    made = {name: (parts.initial.A[own], parts.initial.wide(own)) for own, name in parts.names.items()}
    _write_adapter(asked, parts, out, made, {})
    _write_base(asked.cell, out)


FORMS: dict[str, Callable[[Asked, Parts, Path], tuple[Written | None, list[str]]]] = {
    "lora": _lora, "merged": _merged, "residual": _residual, "peft-init": _init,
}  # fmt: skip


def _write_adapter(
    asked: Asked, parts: Parts, out: Path, made: Mapping[str, trained.TwoFactors], fields: dict[str, Any]
) -> None:
    """A PEFT folder of these pairs (A, B) by the model's module names; fields: beside those of the start."""
    out.mkdir(exist_ok=True)
    trained.write_pairs(out, made)
    kept, left = parts.config, asked.cell.left
    place = {"base_model_name_or_path": left.base, "revision": left.model["commit"]} if fields else {}
    only = {key: value for key, value in ONLY_FACTORS.items() if key in kept}
    write_json(out / folder.CONFIG, kept | only | trained.SAVED | {"init_lora_weights": True} | place | fields)


def _write_model(asked: Asked, parts: Parts, out: Path, make: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    """The base model's folder with what `make` gives in the place of every target weight."""
    source = asked.cell.model["path"]
    whole.write_model(source, out, {module: partial(make, module) for module in parts.names}, asked.dtype)


def _compared(asked: Asked, written: Written, known: Known | None) -> str:
    """A line on the logits of what was written and of the trained cell. Raises UserError above the limit."""
    prompts = logits.prompts(asked.cell.model["path"])
    known = known or known_of(merged_model(asked.cell.whole, asked.cell.model, prompts))
    difference, limit = logits.relative_difference(logits.of(*written, prompts), known.logits), _limit(asked)
    if asked.exact and not (difference <= limit and difference < LOST * known.effect):
        raise UserError(
            f"CELL {asked.cell.folder}: the logits of this form differ from the trained cell's by {difference:.1e}, "
            f"relative (limit {limit:.1e}, and half of the {known.effect:.1e} that the training moved them by). "
            f"Nothing was written. If the training was that small, {HOLDS[asked.form]} may hold it; else please report "
            "this."
        )
    return f"Its logits are within {difference:.1e} of the trained cell's, relative."


def _limit(asked: Asked) -> float:
    """How far the logits of an exact form may be from the trained cell's."""
    dtypes = [asked.cell.spec["settings"]["dtype"]]
    if asked.form in ("merged", "residual"):
        dtypes.append(asked.dtype or stored_dtype(asked.cell.model["path"]))
    return allowed(*dtypes)


def allowed(*dtypes: str) -> float:
    """How far logits may be, relative, where numbers were rounded to these dtypes: EXACT or ROUNDED."""
    return EXACT if set(dtypes) == {"float32"} else ROUNDED


def stored_dtype(source: str | Path) -> str:
    """The dtype of a model's first weight, as torch names it."""
    names = {short: name for name, short in whole.DTYPES.items()}
    tensors = whole.tensors(source)
    return names.get(tensors[min(tensors, key=natural)].dtype, "float32")
