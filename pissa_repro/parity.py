"""Do two back-ends generate the same? One cell on one task, item by item.

python -m pissa_repro.parity --first hf.jsonl --second vllm.jsonl --model MODEL.json --data DATA.jsonl \
    [--init DIR] --trained DIR --out parity.json
python -m pissa_repro.parity --report parity.json ...     # a line each; fails where they disagree

Reads what the generate stage has kept for both. Where two texts part, the merged model says how near
its two next tokens were: in float32 only near-ties may part, rounding decides those. The record holds
the share of equal texts, every item that parted with its gap, and whether all were near-ties.
"""

import argparse
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pissa_repro import generations, gpus, harness, merged
from pissa_repro import model as models
from pissa_repro.errors import UserError, run_stage
from pissa_repro.fetch import sha256, stored_model
from pissa_repro.generate import CHECKED, CHECKED_TOKENS
from pissa_repro.provenance import provenance
from pissa_repro.record import read_json, write_json

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
    logits = models.logits(model, [ids[0][max(0, asked - window) : position]])[0]
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


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--report", nargs="+", type=Path, metavar="RECORD", help="records to show; nothing else is done"
    )
    parser.add_argument("--first", type=Path, help="generations of one back-end")
    parser.add_argument("--second", type=Path, help="generations of the other")
    parser.add_argument("--model", help="record of the fetched base model")
    parser.add_argument("--data", type=Path, help="JSON lines of the test rows")
    parser.add_argument("--init", type=Path, nargs="?", help="folder of initial factors (methods with factors)")
    parser.add_argument("--trained", type=Path, help="folder of trained weights")
    parser.add_argument("--out", type=Path, help="the record to write")
    gpus.add_argument(parser)
    args = parser.parse_args(argv)
    if args.report:
        show(args.report)
        return
    for name in ("first", "second", "model", "data", "trained", "out"):
        if getattr(args, name) is None:
            parser.error(f"--{name} is needed (or --report)")
    gpus.take(args.gpus)
    measure(args)


def measure(args: argparse.Namespace) -> None:
    """Compare what two back-ends have generated for a cell, and write the record."""
    started = time.perf_counter()
    first, second = generations.read(args.first), generations.read(args.second)
    same_source(first, second, args.data)
    spec, stored = first.origin["spec"], stored_model(args.model)
    task = harness.Task(spec["task"], args.data, spec["max_new_tokens"])
    if task.kind == harness.ROLLING:
        raise UserError(f"{spec['task']}: nothing is generated, so there are no texts to compare.")
    tokenizer = models.load_tokenizer(stored["path"])
    prompts = [tokenizer(task.request(i, []).args[0])["input_ids"][:CHECKED_TOKENS] for i in task.ids[:CHECKED]]
    model = merged.merged_model(spec["train"], stored, args.init, args.trained, prompts).model
    window = models.window(model.config, 10**9) - spec["max_new_tokens"]
    found = report(first, second, compare(model, tokenizer, task, (first, second), window))
    write_json(
        args.out, {"spec": [first.origin["spec"], second.origin["spec"]], **found, "provenance": provenance(started)}
    )
    log.info("%s", line(found))


if __name__ == "__main__":
    run_stage(main)
