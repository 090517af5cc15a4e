"""Train one cell with TRL's SFTTrainer, in the paper's setting.

python -m pissa_repro.train --spec "$SPEC" --model MODEL.json --data DATA.jsonl \
    --init DIR --scratch DIR --trained DIR --record train.json --steps train_steps.csv

Writes the trained factors (a PEFT adapter folder; a model folder for full fine-tuning), the record,
and loss, learning rate and unclipped gradient norm of every step. Checkpoints go to --scratch; after
a kill the same command goes on from the last whole one.
"""

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from pissa_repro import data, gpus
from pissa_repro.errors import UserError, run_stage
from pissa_repro.fetch import identities, stored_model
from pissa_repro.provenance import provenance
from pissa_repro.record import atomic, atomic_folder, canonical, read_json, read_lines, write_json

log = logging.getLogger(__name__)
# |logits(base + sBA) - logits(W)| / |logits(W)| allowed on a plain base in float32: a start that changes
# the model is another method (trap 10). What bfloat16 adds is recorded and no gate, for it depends on the
# model alone: 6e-2 for SmolLM2-135M with LoRA, whose start adds nothing.
START_UP = 1e-3


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, type=json.loads, help="canonical JSON of the train stage")
    parser.add_argument("--model", required=True, help="record of the fetched model")
    parser.add_argument("--data", required=True, help="JSON lines with prompt and response")
    parser.add_argument("--init", type=Path, nargs="?", help="folder of initial factors (methods with factors)")
    parser.add_argument("--scratch", required=True, type=Path, help="folder for checkpoints, removed at the end")
    parser.add_argument("--trained", required=True, type=Path, help="folder to write the trained weights to")
    parser.add_argument("--record", required=True, type=Path, help="the record to write")
    parser.add_argument("--steps", required=True, type=Path, help="the CSV of every step to write")
    parser.add_argument("--micro-batch-size", type=int, default=4, help="sequences in one forward pass (default 4)")
    parser.add_argument("--checkpoint-steps", type=int, default=50, help="steps between checkpoints (default 50)")
    gpus.add_argument(parser)
    return parser.parse_args(argv)


def spread(count: int) -> None:
    """Replace this process by one process a GPU, if there is more than one GPU to use."""
    if count > 1 and "WORLD_SIZE" not in os.environ:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m", __spec__.name]
        os.execv(sys.executable, [sys.executable, *launcher, *sys.argv[1:]])


def split_batch(batch: int, micro: int, world: int) -> tuple[int, int]:
    """Micro-batch and accumulation steps whose product over `world` processes is the effective batch.

    The micro-batch is the largest divisor up to `micro`, so that no device changes the batch size.
    """
    if batch % world:
        raise UserError(f"config.train.batch_size: {batch} cannot be shared equally by {world} processes.")
    share = batch // world
    size = max(n for n in range(1, min(micro, share) + 1) if share % n == 0)
    return size, share // size


def prepare(args: argparse.Namespace, stored: dict[str, Any]):
    """The cell's model ready for training, its tokenizer, examples, their lengths and start-up facts."""
    from pissa_repro import factors
    from pissa_repro import model as models

    spec, settings = args.spec, args.spec["settings"]
    tokenizer = models.load_tokenizer(stored["path"])
    base = models.load_base(stored["path"])
    if settings["max_length"] > models.window(base.config, settings["max_length"]):
        limit = base.config.max_position_embeddings
        raise UserError(f"config.train.max_length: {settings['max_length']} tokens, the model sees {limit}.")
    examples, lengths = data.tokenize(read_lines(args.data), tokenizer, settings["max_length"])
    prompts = [example["input_ids"] for example in examples[:4]]
    expected = models.logits(base, prompts)
    if spec["init"] is None:
        return base, tokenizer, examples, lengths, {"logits_difference": None}  # nothing is added to W
    start = factors.load(args.init, stored)
    models.set_base(base, start, spec["quant"], settings["dtype"], pack=True)
    model = models.attach(base, args.init, {"lora_dropout": settings["dropout"], **spec["lora"]})
    found = models.relative_difference(models.logits(model, prompts), expected)
    if spec["quant"] == "none" and not found <= START_UP:  # NaN too
        raise UserError(f"start-up: base + sBA moves the model's logits by {found:.1e}. Is the init another model's?")
    if settings["dtype"] != "float32":
        models.cast((p for p in model.parameters() if not p.requires_grad), settings["dtype"])
        found = models.relative_difference(models.logits(model, prompts), expected)
    return model, tokenizer, examples, lengths, {"logits_difference": found}


def check_dtypes(model, spec: dict[str, Any]) -> dict[str, list[str]]:
    """Trained parameters are float32, the base as the spec says (traps 12 to 15); for the record."""
    from pissa_repro import model as models

    found = models.dtypes(model)
    allowed = {spec["settings"]["dtype"], "uint8"}
    if found["trained"] != ["float32"] or not set(found["frozen"]) <= allowed:
        raise UserError(f"dtypes: {found}; the spec asks for float32 factors on a base of {spec['settings']['dtype']}.")
    return found


def write_steps(path: Path, history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Write step, loss, learning_rate and grad_norm (before clipping) of every step as CSV.

    Floats are written in full, so that two runs can be compared to the last bit.
    """
    columns = ("step", "loss", "learning_rate", "grad_norm")
    rows = [{key: entry[key] for key in columns} for entry in history if "grad_norm" in entry]
    with atomic(path) as file:
        file.write(",".join(columns) + "\n")
        file.writelines(",".join(repr(row[key]) for key in columns) + "\n" for row in rows)
    return rows


def save_trained(trainer, folder: Path) -> None:
    """Save the trained weights; the folder appears under its name only once it is whole."""
    with atomic_folder(folder) as unfinished:
        trainer.model.save_pretrained(unfinished)
        (unfinished / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        if (path := unfinished / "adapter_config.json").is_file():
            config = read_json(path)  # PEFT writes a set, whose order differs between processes
            write_json(path, config | {"target_modules": sorted(config["target_modules"])})


def build_record(args, stored, trainer, rows, lengths, start_up, dtypes) -> dict[str, Any]:
    """The training record; the final loss is the mean over the last tenth of the steps."""
    tail = rows[-max(1, len(rows) // 10) :]
    options = trainer.args
    return {
        "spec": args.spec,
        **identities(stored, args.data),
        "start_up": start_up,
        "dtypes": dtypes,
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "steps": len(rows),
        "final_loss": sum(row["loss"] for row in tail) / len(tail),
        "first_grad_norm": rows[0]["grad_norm"],
        "lengths": lengths.as_dict(),
        "batch": {
            "effective": options.train_batch_size * options.gradient_accumulation_steps * options.world_size,
            "micro": options.per_device_train_batch_size,
            "accumulation": options.gradient_accumulation_steps,
            "processes": options.world_size,
        },
    }


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    gpus.take(args.gpus)
    spread(args.gpus)
    started = time.perf_counter()
    from pissa_repro import trainer as trainers

    stored = stored_model(args.model)
    model, tokenizer, examples, lengths, start_up = prepare(args, stored)
    log.info("%s", {k: v for k, v in lengths.as_dict().items() if v})
    scratch = trainers.Scratch(args.scratch, canonical(args.spec))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    micro, accumulation = split_batch(args.spec["settings"]["batch_size"], args.micro_batch_size, world)
    trainer = trainers.build(model, tokenizer, examples, args.spec, scratch, micro, accumulation, args.checkpoint_steps)
    dtypes = check_dtypes(trainer.model, args.spec)
    if trainer.args.train_batch_size != micro:  # the Trainer would use every GPU that it sees
        raise UserError(f"--gpus: a process has to see one GPU, this one sees {trainer.args.n_gpu}.")
    before = time.perf_counter()
    trainer.train(resume_from_checkpoint=scratch.last())
    seconds = time.perf_counter() - before
    if not trainer.is_world_process_zero():
        return
    save_trained(trainer, args.trained)
    rows = write_steps(args.steps, trainer.state.log_history)
    record = build_record(args, stored, trainer, rows, lengths, start_up, dtypes)
    record |= {"train_seconds": scratch.seconds_before + seconds, "resumed_from": scratch.resumed_from}
    write_json(args.record, {**record, "provenance": provenance(started)})
    scratch.remove()
    log.info("final loss %.4f after %d steps, %.1f s", record["final_loss"], record["steps"], record["train_seconds"])


if __name__ == "__main__":
    run_stage(main)
