"""Do two back-ends generate the same? One cell on one task, item by item."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from pissa_repro.model import checks, load, tokens
from pissa_repro.model.merged import TrainedCell, merged_model
from pissa_repro.model.skeleton import folder_architecture
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json, sha256
from pissa_repro.runtime.record_types import ModelRecord
from pissa_repro.scoring import generations, harness
from pissa_repro.scoring.generator import CHECKED, CHECKED_TOKENS
from pissa_repro.sources.prompt import Style, make_style, named
from pissa_repro.training import diverged
from pissa_repro.training.cell import verified

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)
# Gap between the logits of two tokens that rounding alone may reverse; the kernels of HF and vLLM
# were measured to differ by up to 1e-5 in float32 log-probabilities on the embedded model.
NEAR_TIE = {"float32": 1e-3, "bfloat16": 0.25}


class Parting(TypedDict):
    """Where two answers to a prompt part: a position in the answer, the gap of its two logits, whether these lead."""

    token: int
    gap: float
    top_two: bool


class Parted(Parting):
    """An item whose answers part."""

    id: int
    texts: list[str]


class Report(TypedDict):
    """What the record says of two back-ends. equal: texts. agree: whether all that parted were near-ties."""

    backends: list[str]
    items: int
    equal: int
    parted: list[Parted]
    widest_gap: float
    near_tie_limit: float
    agree: bool


def _source(kept: generations.Generations) -> dict[str, Any]:
    """What generations that are compared have in common: all but the back-end, the versions and the cell's name."""
    spec = kept.origin["spec"]
    return {
        "task": spec["task"],
        "max_new_tokens": spec["max_new_tokens"],
        "dtype": spec["dtype"],
        "train": spec["train"],
        "weights": kept.origin["base"]["fingerprint"],
        "trained_sha256": kept.origin["trained_sha256"],
    }


def same_source(first: generations.Generations, second: generations.Generations, rows: Path) -> None:
    """Raise UserError unless both were generated from the same weights and rows, with the same task and dtype."""
    for kept in (first, second):
        if kept.origin["data_sha256"] != sha256(rows):
            raise UserError(f"{kept.path}: generated from other rows than {rows}.")
    other = _source(second)
    if differ := [key for key, value in _source(first).items() if value != other[key]]:
        raise UserError(f"{first.path} and {second.path} are not the same cell and task: they differ in {differ}.")


def parted(model: "PreTrainedModel", style: Style, prompt: str, texts: tuple[str, str], window: int) -> Parting:
    """Where two answers to a prompt part.

    Prompt and answer are tokenized again, together; an answer that ended has the token there that ends targets.
    window: tokens of the prompt that the engines have seen, counted from its end.
    """
    ids = [[*whole, style.ends[0]] for whole in style.ids([prompt + text for text in texts])]
    pairs = zip(*ids, strict=False)
    position = next((k for k, (a, b) in enumerate(pairs) if a != b), min(map(len, ids)) - 1)
    asked = len(style.ids([prompt])[0])
    logits = checks.logits(model, [ids[0][max(0, asked - window) : position]])[0]
    chosen = [whole[position] for whole in ids]
    gap = abs(logits[chosen[0]] - logits[chosen[1]]).item()
    return {"token": position - asked, "gap": gap, "top_two": set(chosen) == set(logits.topk(2).indices.tolist())}


def compare(
    model: "PreTrainedModel",
    style: Style,
    task: harness.Task,
    kept: tuple[generations.Generations, generations.Generations],
    window: int,
) -> list[Parted]:
    """Every item whose first turns differ, and where. Later turns have other prompts, so they are not compared.

    A blank in front is no difference: of a first token with one, transformers drops it and vLLM does not.
    Raises UserError where an item is not generated yet.
    """
    differ: list[Parted] = []
    for side in kept:
        if missing := side.pending(task.ids, 0):
            raise UserError(
                f"{side.path}: {len(missing)} of {len(task.ids)} items are not generated yet. Run it again."
            )
    first, second = kept
    for item in task.ids:
        texts = (first.turns[item][0], second.turns[item][0])
        if texts[0].removeprefix(" ") != texts[1].removeprefix(" "):
            place = parted(model, style, task.prompt(item, style), texts, window)
            differ.append({"id": item, **place, "texts": list(texts)})
    return differ


def report(first: generations.Generations, second: generations.Generations, differ: list[Parted]) -> Report:
    """The record's facts: items, equal texts, the widest gap, and whether all that parted were near-ties."""
    limit = NEAR_TIE[first.origin["spec"]["dtype"]]
    return {
        "backends": [side.origin["spec"]["backend"] for side in (first, second)],
        "items": len(first.turns),
        "equal": len(first.turns) - len(differ),
        "parted": differ,
        "widest_gap": max((item["gap"] for item in differ), default=0.0),
        "near_tie_limit": limit,
        "agree": all(item["gap"] <= limit for item in differ),
    }


def line(facts: Report) -> str:
    """A record in words."""
    return (
        f"{' and '.join(facts['backends'])}: {facts['equal']} of {facts['items']} texts equal; "
        f"{len(facts['parted'])} parted, widest gap {facts['widest_gap']:.2g} logits: "
        + ("they agree" if facts["agree"] else f"MORE than near-ties (limit {facts['near_tie_limit']})")
    )


def show(paths: list[Path]) -> None:
    """Print a line for each record. Raises UserError if back-ends disagree in one of them."""
    records: dict[Path, Report] = {path: read_json(path) for path in paths}
    for path, facts in records.items():
        print(f"{path}: {line(facts)}")
    if wrong := [path for path, facts in records.items() if not facts["agree"]]:
        raise UserError(f"parity: the back-ends disagree in {len(wrong)} of {len(records)} records, {wrong[0]} first.")


def compare_kept(
    paths: tuple[Path, Path], stored: ModelRecord, rows: Path, init: Path | None, trained: Path
) -> dict[str, Any]:
    """The record, less its provenance, of what two back-ends have generated for a cell: the files at `paths`."""
    first, second = (generations.read(path) for path in paths)
    same_source(first, second, rows)
    diverged.refuse(trained)
    if verified(trained, init) != first.origin["trained_sha256"]:
        raise UserError(f"{first.path}: generated from other weights than {trained} holds now. Generate it again.")
    spec = first.origin["spec"]
    task = harness.Task(spec["task"], rows, spec["max_new_tokens"])
    if task.kind == harness.ROLLING:
        raise UserError(f"{spec['task']}: nothing is generated, so there are no texts to compare.")
    tokenizer = tokens.load_tokenizer(stored["path"])
    asked = make_style(named(spec["train"]), tokenizer, folder_architecture(stored["path"]))
    prompts = [ids[:CHECKED_TOKENS] for ids in asked.ids([task.prompt(i, asked) for i in task.ids[:CHECKED]])]
    model = merged_model(TrainedCell(spec["train"], init, trained), stored, prompts).model
    window = load.window(model.config, 10**9) - spec["max_new_tokens"]
    facts = report(first, second, compare(model, asked, task, (first, second), window))
    log.info("%s", line(facts))
    return {"spec": [first.origin["spec"], second.origin["spec"]], **facts}
