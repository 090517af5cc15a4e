"""What a training leaves for other people's tools, beside its factors: a plain LoRA where one is exact, and a card."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pissa_repro.adapters import cell_card, folder, stacked, streamed
from pissa_repro.adapters.cell_card import Trained
from pissa_repro.adapters.cells import StoredCell
from pissa_repro.adapters.folder import Adapter
from pissa_repro.adapters.pair import Pair, compare, survey
from pissa_repro.model import factors
from pissa_repro.model.architecture import CLASSIFICATION
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.runtime import paths
from pissa_repro.runtime.provenance import git_state
from pissa_repro.runtime.record import atomic, read_json, write_json
from pissa_repro.runtime.record_types import Git, ScoreRecord, TrainFacts

SAVED = {"peft_type": "LORA", "inference_mode": True}  # what PEFT writes beside the fields of LoraConfig


def finish(trained: Trained, facts: TrainFacts) -> None:
    """Write the top level of the folder: a PEFT adapter or the tokenizer of whole weights, and README.md."""
    if trained.start is None:
        needs_end = facts["architecture"] != CLASSIFICATION.name
        load_tokenizer(trained.model["path"], needs_end).save_pretrained(trained.folder)
    elif no_plain(trained.folder) is None:
        write_plain(trained, trained.folder)
    with atomic(trained.folder / "README.md") as file:
        file.write(_card(trained, facts, git_state(), {}))


def card_of(cell: StoredCell) -> str:
    """The model card of a cell, with the scores that it has by now."""
    files = paths.Cell(cell.folder)
    scores = {task: read_json(files.score(task)) for task in files.scored()}
    return _card(cell.left, cell.record, cell.record["provenance"]["git"], scores)


def _card(trained: Trained, facts: TrainFacts, git: Git, scores: dict[str, ScoreRecord]) -> str:
    why = no_plain(trained.folder) if trained.start else None
    return cell_card.text(trained, facts, git, why, scores)


def no_plain(folder: Path) -> str | None:
    """Why the trained factors are no plain LoRA on the untouched base, in words; None where they are one."""
    inside = factors.trained_factors(folder)
    belongs = factors.belongs_of(inside)
    if belongs["quant"] != "none":
        return (
            f"they were trained on a base quantized to {belongs['quant']}, which is not the untouched model, nor that "
            "model quantized"
        )
    adapter = read(inside)
    if any(".lora_" in key for key in adapter.others):  # biases and whole modules a plain LoRA can have beside
        return "more than A and B was trained (DoRA's magnitudes, for one), which no plain LoRA holds"
    times = 1 if belongs["offset"] is None else 2
    a, b = ([adapter.tensors[getattr(one, side)].shape for one in adapter.modules.values()] for side in ("a", "b"))
    lora = sum(times * (left[0] * left[1] + right[0] * right[1]) for left, right in zip(a, b, strict=True))
    base = sum(left[1] * right[0] for left, right in zip(a, b, strict=True))
    if lora > base:
        return f"as a plain LoRA they would have {lora:,} parameters, more than the {base:,} of the matrices themselves"
    return None


def write_plain(trained: Trained, out: Path) -> None:
    """Write the trained factors as a plain LoRA on the untouched base: adapter_model.safetensors and its config.

    Raises UserError for trained factors whose rank, scaling or shapes are not the start's.
    """
    assert trained.start is not None
    with ExitStack() as opened:
        pair = Pair(read(factors.trained_factors(trained.folder)), read(trained.start, taken=True), opened)
        compare(pair, 1)
        found = survey(pair)
        if factors.belongs_of(trained.start)["offset"] is None:  # LoftQ with T = 1 starts from factors all the same
            found.taken = set()
        made, _ = stacked.entries(pair, found, "lora")
        place = {"base_model_name_or_path": trained.base, "revision": trained.model["commit"]}
        streamed.write(out / folder.ADAPTER, made)
        write_json(out / folder.CONFIG, stacked.config(pair, found, "lora") | SAVED | place)


def read(inside: Path, taken: bool = False) -> Adapter:
    """A folder of factors as an adapter; taken: what was taken out of W instead of A and B."""
    own = taken and factors.belongs_of(inside)["offset"] == "own"
    config: dict[str, Any] = read_json(inside / factors.CONFIG)
    return folder.of(inside, inside / (factors.OFFSET if own else factors.FACTORS), config)
