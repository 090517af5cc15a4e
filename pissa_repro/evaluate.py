"""Score one trained cell on one task with lm-eval, on the very weights that were trained.

python -m pissa_repro.evaluate --spec "$SPEC" --model MODEL.json --data DATA.jsonl \
    --init DIR --trained DIR --record score.json --samples samples.jsonl

The base is rebuilt, dequantized, and s * B @ A merged into it in memory. The record holds score,
n and standard error of every metric; the samples hold each prompt, generation and verdict.
"""

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

from pissa_repro import gpus
from pissa_repro.config import TASKS
from pissa_repro.errors import UserError, run_stage
from pissa_repro.fetch import identities, stored_model
from pissa_repro.provenance import provenance
from pissa_repro.record import read_lines, write_json, write_lines

log = logging.getLogger(__name__)
MERGED = 1e-3  # |logits(merged) - logits(trained)| / |logits(trained)| allowed


def merged_model(
    spec: dict[str, Any], stored: dict[str, Any], init: Path | None, trained: Path, prompts: list[list[int]]
):
    """The cell's model with its factors merged, float32, and what the checks found.

    Merging and scoring are in float32 whatever the training's dtype was: the base has the very
    values that were trained on, and an update smaller than bfloat16 can hold is not rounded away.
    training_effect: how far the logits are from those at the start of the training.
    Raises UserError when training changed nothing, or when the merge changed the logits (traps 20, 24).
    """
    from pissa_repro import factors
    from pissa_repro import model as models

    train = spec["train"]
    if train["init"] is None:
        before = models.logits(models.load_base(stored["path"]), prompts)
        model, merge_error = models.load_base(trained), 0.0
        after = models.logits(model, prompts)
    else:
        base = models.load_base(stored["path"])
        models.set_base(base, factors.load(init, stored), train["quant"], train["settings"]["dtype"], pack=False)
        start = models.attach(base.float(), init, train["lora"])
        before = models.logits(start, prompts)
        wrapped = models.attach(start.unload(), trained)
        after = models.logits(wrapped, prompts)
        model = wrapped.merge_and_unload()
        merge_error = models.relative_difference(models.logits(model, prompts), after)
    effect = models.relative_difference(after, before)
    if not effect > 0:  # NaN too
        raise UserError(f"{trained}: the trained weights do not change the model's output, or make it NaN.")
    if not merge_error <= MERGED:
        raise UserError(f"{trained}: merging changes the logits by {merge_error:.1e} (limit {MERGED}).")
    return model.eval(), {"training_effect": effect, "merge_error": merge_error}


def run_task(spec: dict[str, Any], lm, data: Path) -> tuple[dict[str, dict[str, float]], list[dict[str, Any]]]:
    """Metrics {name: {"value", "stderr", "n"}} as fractions of 1, and the samples in the data's order."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    found = simple_evaluate(
        lm,
        tasks=[spec["task"]],
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"path": str(data)}),
        gen_kwargs={"max_gen_toks": spec["max_new_tokens"]},
        log_samples=True,
        bootstrap_iters=1,  # 0 would also drop the standard error of a mean, which needs no bootstrap
    )
    scores, samples = found["results"][spec["task"]], found["samples"][spec["task"]]
    names = [key.removesuffix(",none") for key in scores if key.endswith(",none") and "_stderr" not in key]
    metrics = {
        name: {"value": scores[f"{name},none"], "stderr": scores[f"{name}_stderr,none"], "n": len(samples)}
        for name in names
    }
    return metrics, [_sample(sample, names) for sample in sorted(samples, key=lambda s: s["doc_id"])]


def _sample(sample: dict[str, Any], metrics: list[str]) -> dict[str, Any]:
    return {
        "id": sample["doc_id"],
        "prompt": sample["doc"]["prompt"],
        "target": sample["target"],
        "generated": sample["resps"][0][0],
        **{name: sample[name] for name in metrics},
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, type=json.loads, help="canonical JSON of the evaluate stage")
    parser.add_argument("--model", required=True, help="record of the fetched base model")
    parser.add_argument("--data", required=True, type=Path, help="JSON lines with prompt and response")
    parser.add_argument("--init", type=Path, nargs="?", help="folder of initial factors (methods with factors)")
    parser.add_argument("--trained", required=True, type=Path, help="folder of trained weights")
    parser.add_argument("--record", required=True, type=Path, help="the record to write")
    parser.add_argument("--samples", required=True, type=Path, help="the JSON lines of every item to write")
    parser.add_argument("--batch-size", type=int, default=16, help="prompts generated together (default 16)")
    gpus.add_argument(parser)
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    from pissa_repro import model as models
    from pissa_repro.backends import BACKENDS
    from pissa_repro.data import PROMPT

    stored, spec = stored_model(args.model), args.spec
    tokenizer = models.load_tokenizer(stored["path"])
    prompts = tokenizer([PROMPT.format(instruction=row["prompt"]) for row in read_lines(args.data)])["input_ids"]
    model, checks = merged_model(spec, stored, args.init, args.trained, [ids[:256] for ids in prompts[:4]])
    window, new = models.window(model, 10**9), spec["max_new_tokens"]
    if new >= window:
        raise UserError(f"config.tasks: max_new_tokens {new} fills the model's window of {window}.")
    before = time.perf_counter()
    metrics, samples = run_task(spec, BACKENDS[spec["backend"]](model, tokenizer, args.batch_size), args.data)
    seconds = time.perf_counter() - before
    write_lines(args.samples, samples)
    record = {
        "spec": spec,
        **identities(stored, args.data),
        "metrics": metrics,
        "checks": checks,
        "generate_seconds": round(seconds, 3),
    }
    record["prompts_cut"] = sum(len(ids) > window - new for ids in prompts)  # on the left, by lm-eval
    write_json(args.record, {**record, "provenance": provenance(started)})
    log.info("%s", ", ".join(f"{k} {100 * m['value']:.2f} % +- {100 * m['stderr']:.2f}" for k, m in metrics.items()))


if __name__ == "__main__":
    run_stage(main)
