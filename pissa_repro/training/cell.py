"""The training of one cell: its model and examples, its checks, and what is written of it."""

from pathlib import Path
from typing import Any

from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import atomic, atomic_folder, read_json, read_lines, write_json
from pissa_repro.sources.fetched import identities
from pissa_repro.training.examples import tokenize

# |logits(base + sBA) - logits(W)| / |logits(W)| allowed on a plain base in float32: a start that changes
# the model is another method (trap 10). What bfloat16 adds is recorded and no gate, for it depends on the
# model alone: 6e-2 for SmolLM2-135M with LoRA, whose start adds nothing.
START_UP = 1e-3


def split_batch(batch: int, micro: int, world: int) -> tuple[int, int]:
    """Micro-batch and accumulation steps whose product over `world` processes is the effective batch.

    The micro-batch is the largest divisor up to `micro`, so that no device changes the batch size.
    """
    if batch % world:
        raise UserError(f"config.train.batch_size: {batch} cannot be shared equally by {world} processes.")
    share = batch // world
    size = max(n for n in range(1, min(micro, share) + 1) if share % n == 0)
    return size, share // size


def prepare(args: Any, stored: dict[str, Any]):
    """The cell's model ready for training, its tokenizer, examples, their lengths and start-up facts."""
    from pissa_repro.model import factors
    from pissa_repro.model.adapter import attach
    from pissa_repro.model.base import cast, set_base
    from pissa_repro.model.checks import logits, relative_difference
    from pissa_repro.model.load import load_base, load_tokenizer, window

    spec, settings = args.spec, args.spec["settings"]
    tokenizer = load_tokenizer(stored["path"])
    base = load_base(stored["path"])
    if settings["max_length"] > window(base.config, settings["max_length"]):
        limit = base.config.max_position_embeddings
        raise UserError(f"config.train.max_length: {settings['max_length']} tokens, the model sees {limit}.")
    examples, lengths = tokenize(read_lines(args.data), tokenizer, settings["max_length"])
    prompts = [example["input_ids"] for example in examples[:4]]
    expected = logits(base, prompts)
    if spec["init"] is None:
        return base, tokenizer, examples, lengths, {"logits_difference": None}  # nothing is added to W
    start = factors.load(args.init, stored)
    set_base(base, start, spec["quant"], settings["dtype"], pack=True)
    model = attach(base, args.init, {"lora_dropout": settings["dropout"], **spec["lora"]})
    found = relative_difference(logits(model, prompts), expected)
    if spec["quant"] == "none" and not found <= START_UP:  # NaN too
        raise UserError(f"start-up: base + sBA moves the model's logits by {found:.1e}. Is the init another model's?")
    if settings["dtype"] != "float32":
        cast((p for p in model.parameters() if not p.requires_grad), settings["dtype"])
        found = relative_difference(logits(model, prompts), expected)
    return model, tokenizer, examples, lengths, {"logits_difference": found}


def check_dtypes(model, spec: dict[str, Any]) -> dict[str, list[str]]:
    """Trained parameters are float32, the base as the spec says (traps 12 to 15); for the record."""
    from pissa_repro.model import checks

    found = checks.dtypes(model)
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
