"""Do two back-ends generate the same? One cell on one task, item by item."""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pissa_repro.model import checks, load, merged
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import read_json, write_json
from pissa_repro.scoring import generations, harness
from pissa_repro.scoring.generator import CHECKED, CHECKED_TOKENS
from pissa_repro.sources.fetched import sha256, stored_model

if TYPE_CHECKING:
    import torch


log = logging.getLogger(__name__)
# Gap between the logits of two tokens that rounding alone may turn round; the kernels of HF and vLLM
# were measured to differ by up to 1e-5 in float32 log-probabilities on the embedded model.
NEAR_TIE = {"float32": 1e-3, "bfloat16": 0.25}
SAME = ("task", "max_new_tokens", "dtype", "data", "train")


def same_source(first: generations.Generations, second: generations.Generations, rows: Path) -> None:
    """Raise UserError unless both were generated from the same weights and rows, with the same task and dtype."""
    for kept in (first, second):
        if kept.origin["data_sha256"] != sha256(rows):
            raise UserError(f"{kept.path}: generated from other rows than {rows}.")
    differ = [key for key in SAME if first.origin["spec"][key] != second.origin["spec"][key]]
    differ += [key for key in ("base", "trained_sha256") if first.origin[key] != second.origin[key]]
    if differ:
        raise UserError(f"{first.path} and {second.path} are not the same cell and task: they differ in {differ}.")


def parted(
    model: "torch.nn.Module", tokenizer: Any, prompt: str, texts: tuple[str, str], window: int
) -> dict[str, Any]:
    """Where two answers to a prompt part: {"token" (position in the answer), "gap" (of logits), "top_two"}.

    Prompt and answer are tokenized again, together; an answer that ended has the eos token there.
    window: tokens of the prompt that the engines have seen, counted from its end.
    """
    ids = [[*tokenizer(prompt + text)["input_ids"], tokenizer.eos_token_id] for text in texts]
    pairs = zip(*ids, strict=False)
    position = next((k for k, (a, b) in enumerate(pairs) if a != b), min(map(len, ids)) - 1)
    asked = len(tokenizer(prompt)["input_ids"])
    logits = checks.logits(model, [ids[0][max(0, asked - window) : position]])[0]
    chosen = [one[position] for one in ids]
    gap = abs(logits[chosen[0]] - logits[chosen[1]]).item()
    return {"token": position - asked, "gap": gap, "top_two": set(chosen) == set(logits.topk(2).indices.tolist())}


def compare(
    model: "torch.nn.Module", tokenizer: Any, task: Any, kept: tuple[Any, Any], window: int
) -> list[dict[str, Any]]:
    """Every item whose first turns differ, and where. Later turns have other prompts, so they are not compared.

    A blank in front is no difference: of a first token with one, transformers drops it and vLLM does not.
    Raises UserError where an item is not generated yet.
    """
    found = []
    for one in kept:
        if missing := one.pending(task.ids, 0):
            raise UserError(f"{one.path}: {len(missing)} of {len(task.ids)} items are not generated yet. Run it again.")
    for item in task.ids:
        texts = tuple(one.turns[item][0] for one in kept)
        if texts[0].removeprefix(" ") != texts[1].removeprefix(" "):
            prompt = task.request(item, []).args[0]
            found.append({"id": item, **parted(model, tokenizer, prompt, texts, window), "texts": list(texts)})
    return found


def report(first: generations.Generations, second: generations.Generations, differ: list[dict]) -> dict[str, Any]:
    """The record's facts: items, equal texts, the widest gap, and whether all that parted were near-ties."""
    limit = NEAR_TIE[first.origin["spec"]["dtype"]]
    return {
        "backends": [one.origin["spec"]["backend"] for one in (first, second)],
        "items": len(first.turns),
        "equal": len(first.turns) - len(differ),
        "parted": differ,
        "widest_gap": max((one["gap"] for one in differ), default=0.0),
        "near_tie_limit": limit,
        "agree": all(one["gap"] <= limit for one in differ),
    }


def line(found: dict[str, Any]) -> str:
    """A record in words."""
    return (
        f"{' and '.join(found['backends'])}: {found['equal']} of {found['items']} texts equal; "
        f"{len(found['parted'])} parted, widest gap {found['widest_gap']:.2g} logits: "
        + ("they agree" if found["agree"] else f"MORE than near-ties (limit {found['near_tie_limit']})")
    )


def show(paths: list[Path]) -> None:
    """Print a line for each record. Raises UserError if back-ends disagree in one of them."""
    records = {path: read_json(path) for path in paths}
    for path, found in records.items():
        print(f"{path}: {line(found)}")
    if wrong := [path for path, found in records.items() if not found["agree"]]:
        raise UserError(f"parity: the back-ends disagree in {len(wrong)} of {len(records)} records, {wrong[0]} first.")


def measure(args: Any) -> None:
    """Compare what two back-ends have generated for a cell, and write the record."""
    started = time.perf_counter()
    first, second = generations.read(args.first), generations.read(args.second)
    same_source(first, second, args.data)
    spec, stored = first.origin["spec"], stored_model(args.model)
    task = harness.Task(spec["task"], args.data, spec["max_new_tokens"])
    if task.kind == harness.ROLLING:
        raise UserError(f"{spec['task']}: nothing is generated, so there are no texts to compare.")
    tokenizer = load.load_tokenizer(stored["path"])
    prompts = [tokenizer(task.request(i, []).args[0])["input_ids"][:CHECKED_TOKENS] for i in task.ids[:CHECKED]]
    model = merged.merged_model(spec["train"], stored, args.init, args.trained, prompts).model
    window = load.window(model.config, 10**9) - spec["max_new_tokens"]
    found = report(first, second, compare(model, tokenizer, task, (first, second), window))
    write_json(
        args.out, {"spec": [first.origin["spec"], second.origin["spec"]], **found, "provenance": provenance(started)}
    )
    log.info("%s", line(found))
