"""What a training leaves for other people's tools, beside its factors: a plain LoRA where one is exact, and a card."""

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import torch

from pissa_repro.adapters import cell_card, folder, stacked
from pissa_repro.adapters.cell_card import Trained
from pissa_repro.adapters.cells import StoredCell
from pissa_repro.adapters.folder import Adapter
from pissa_repro.adapters.pair import Pair, compare, survey
from pissa_repro.adapters.parts import Parts
from pissa_repro.model import factors, keys, patterns, streamed
from pissa_repro.model.architecture import CLASSIFICATION
from pissa_repro.model.header import header
from pissa_repro.model.peft_words import DONE
from pissa_repro.model.streamed import Entry
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.provenance import git_state
from pissa_repro.runtime.record import atomic, read_json, write_json
from pissa_repro.runtime.record_types import Git, ScoreRecord, TrainFacts

TwoFactors: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # A (k, in), B (out, k)
SAVED = {"peft_type": "LORA", "inference_mode": True}  # what PEFT writes beside the fields of LoraConfig


def finish(trained: Trained, facts: TrainFacts) -> None:
    """Write the top level of the folder: a PEFT adapter or the tokenizer of whole weights, and README.md."""
    if trained.start is None:
        needs_end = facts["architecture"] != CLASSIFICATION.name
        load_tokenizer(trained.model["path"], needs_end).save_pretrained(trained.folder)
    elif no_plain(trained.folder, trained.start) is None:
        write_plain(trained, trained.folder)
    with atomic(trained.folder / "README.md") as file:
        file.write(_card(trained, facts, git_state(), {}))


def card_of(cell: StoredCell) -> str:
    """The model card of a cell, with the scores that it has by now."""
    files = paths.Cell(cell.folder)
    scores = {task: read_json(files.score(task)) for task in files.scored()}
    return _card(cell.left, cell.record, cell.record["provenance"]["git"], scores)


def _card(trained: Trained, facts: TrainFacts, git: Git, scores: dict[str, ScoreRecord]) -> str:
    why = no_plain(trained.folder, trained.start) if trained.start else None
    return cell_card.text(trained, facts, git, why, scores)


def no_plain(folder: Path, start: Path) -> str | None:
    """Why the factors that were trained from `start` are no plain LoRA on the untouched base; None where they are."""
    belongs, left = factors.belongs_of(start), header(factors.trained_factors(folder) / factors.FACTORS)
    if belongs["quant"] != "none":
        return (
            f"they were trained on a base quantized to {belongs['quant']}, which is not the untouched model, nor that "
            "model quantized"
        )
    if any(".lora_" in key and not keys.part_of(key)[1] for key in left):  # biases a plain LoRA can have beside
        return "more than A and B was trained (DoRA's magnitudes, for one), which no plain LoRA holds"
    stored = header(start / factors.FACTORS)
    pairs = [stored] * (1 if belongs["offset"] is None else 2)
    if belongs["offset"] == "own":
        pairs = [stored, header(start / factors.OFFSET)]
    lora = sum(prod(one.shape) for pair in pairs for key, one in pair.items() if keys.part_of(key)[1] in ("A", "B"))
    sides = {keys.part_of(key): one.shape for key, one in stored.items()}
    base = sum(shape[1] * sides[name, "B"][0] for (name, part), shape in sides.items() if part == "A")
    if lora > base:
        return f"as a plain LoRA they would have {lora:,} parameters, more than the {base:,} of the matrices themselves"
    return None


def write_plain(trained: Trained, out: Path) -> None:
    """Write the trained factors as a plain LoRA on the untouched base: adapter_model.safetensors and its config.

    Raises UserError for trained factors whose rank, scaling or shapes are not the start's.
    """
    assert trained.start is not None
    place = {"base_model_name_or_path": trained.base, "revision": trained.model["commit"]}
    if whole(trained.start):
        fields = _write_halves(trained.folder, trained.start, out)
    else:
        parts = Parts(trained)
        made = {name: parts.stacked(module) for module, name in parts.names.items()}
        write_pairs(out, made, parts)
        fields = {**parts.config, **DONE, **_scales(parts, made)}
    write_json(out / folder.CONFIG, fields | SAVED | place)


def whole(start: Path) -> bool:
    """Whether a training from this start leaves A and B of all modules, of the rank of what was taken out."""
    belongs = factors.belongs_of(start)
    if belongs["offset"] != "own" or "trained" in belongs:
        return "trained" not in belongs
    one, other = (header(start / name) for name in (factors.FACTORS, factors.OFFSET))
    return all(one[key].shape == other[key].shape for key in one)


def _write_halves(left: Path, start: Path, out: Path) -> dict[str, Any]:
    """A and B beside those of the start, tensor by tensor; returns the fields of their LoraConfig."""
    with ExitStack() as opened:
        pair = Pair(read(factors.trained_factors(left)), read(start, taken=True), opened)
        compare(pair, 1)
        found = survey(pair)
        made, _ = stacked.entries(pair, found, "lora")
        streamed.write(out / folder.ADAPTER, made)
        return stacked.config(pair, found, "lora")


def write_pairs(out: Path, made: Mapping[str, TwoFactors], beside: Parts | None = None) -> None:
    """Write adapter_model.safetensors: pairs (A, B), float32, by the model's module names.

    beside: what else was trained in this cell is written too. Raises UserError for NaN and infinities.
    """
    entries = {}
    for name, pair in made.items():
        for side, one in zip("AB", pair, strict=True):
            if not bool(one.isfinite().all()):
                raise UserError(f"{out}: {side} of {name} holds NaN or infinities.")
            entries[f"{keys.PREFIX}{name}.lora_{side}.weight"] = Entry("F32", tuple(one.shape), partial(_same, one))
    if beside:
        for key in beside.others:
            stored = beside.tensors[key]
            entries[key] = Entry(stored.dtype, stored.shape, partial(beside.tensor, key))
    streamed.write(out / folder.ADAPTER, entries)


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _scales(parts: Parts, made: Mapping[str, TwoFactors]) -> dict[str, Any]:
    """The fields of LoraConfig by which pairs of these ranks are scaled as the trained factors."""
    ranks, rslora = {name: len(a) for name, (a, _) in made.items()}, bool(parts.config.get("use_rslora"))
    scalings = {name: parts.trained(module)[2] for module, name in parts.names.items()}
    alphas = {name: factors.alpha_of(scalings[name], rank, rslora) for name, rank in ranks.items()}
    ((rank, alpha), _), *_ = Counter((ranks[name], alphas[name]) for name in sorted(ranks)).most_common()
    usual = {"r": rank, "lora_alpha": alpha}
    return {**usual, "rank_pattern": {}, "alpha_pattern": {}, **patterns.patterns(usual, ranks, alphas)}


def read(inside: Path, taken: bool = False) -> Adapter:
    """A folder of factors as an adapter; taken: what was taken out of W instead of A and B."""
    own = taken and factors.belongs_of(inside)["offset"] == "own"
    config: dict[str, Any] = read_json(inside / factors.CONFIG)
    return folder.of(inside, inside / (factors.OFFSET if own else factors.FACTORS), config)
