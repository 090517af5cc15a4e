"""The training of one cell: its model and examples, its checks, and what is written of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pissa_repro import methods
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import content, read_json, read_lines, write_csv
from pissa_repro.runtime.record_types import Identity, MadeFrom, ModelRecord, Step, TrainFacts, TrainRecord
from pissa_repro.runtime.specs import TrainSpec
from pissa_repro.sources.prompt import facts, make_style, named
from pissa_repro.training import diverged
from pissa_repro.training.examples import RESPONSE, Classified, Example, Lengths, classified, tokenize

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

# |logits(base + sBA) - logits(W)| / |logits(W)| allowed on a plain base in float32: a start that changes
# the model is another method (pitfall 10). What bfloat16 adds is recorded and no gate, for it depends on the
# model alone: 6e-2 for SmolLM2-135M with LoRA, whose start adds nothing.
START_UP = 1e-3


class Share(NamedTuple):
    """What a process takes of a batch: sequences in a forward pass, and passes in a step."""

    micro: int
    accumulation: int


@dataclass(frozen=True)
class Prepared:
    """What a cell is trained with. logits_difference: how far the initial factors move the model; None without any."""

    model: "PreTrainedModel | PeftModel"
    tokenizer: "PreTrainedTokenizerBase"
    examples: list[Example] | list[Classified]
    lengths: Lengths
    logits_difference: float | None


def split_batch(batch: int, micro: int, world: int) -> Share:
    """Micro-batch and accumulation steps whose product over `world` processes is the effective batch.

    The micro-batch is the largest divisor up to `micro`, so that no device changes the batch size.
    """
    if batch % world:
        raise UserError(f"config.train.batch_size: {batch} cannot be shared equally by {world} processes.")
    share = batch // world
    size = max(n for n in range(1, min(micro, share) + 1) if share % n == 0)
    return Share(size, share // size)


def made_from(spec: TrainSpec, identity: Identity, init: Path | None) -> MadeFrom:
    """What a training is made from, which a checkpoint has to share to be gone on with."""
    from pissa_repro.model import factors

    return {
        "spec": spec,
        "weights": identity["base"]["fingerprint"],
        "rows": identity["data_sha256"],
        "start": factors.sha256(init) if init else None,
    }


def prepare(spec: TrainSpec, stored: ModelRecord, data: Path, init: Path | None, device: str | None = None) -> Prepared:
    """The cell's model ready for training, and its examples from the rows in `data`. init: of a cell with factors.

    Its weights are read, changed and placed one by one, so that no more of them is in memory than the training uses.
    device: where the model is made, if not on this process's: that of a model to be sharded is the host.
    """
    from pissa_repro.model import classes, factors
    from pissa_repro.model.adapter import attach
    from pissa_repro.model.base import cast, set_base
    from pissa_repro.model.checks import logits, relative_difference
    from pissa_repro.model.load import DTYPES, check_length, lent_base
    from pissa_repro.model.tokens import align, load_tokenizer

    settings, rows = spec["settings"], list(read_lines(data))
    dtype = settings["dtype"]
    gives_classes = settings.get("task") == classes.TASK
    head = classes.Head(classes.named(rows, str(data)), spec["seed"]) if gives_classes else None
    tokenizer = load_tokenizer(stored["path"], needs_end=head is None)
    lent = lent_base(stored["path"], device=device, head=head)
    base = lent.model
    align(base, tokenizer)  # full fine-tuning saves what its config says
    check_length(settings["max_length"], base.config)
    examples, lengths = _examples(rows, base, tokenizer, spec)
    prompts = [example["input_ids"] for example in examples[:4]]
    if spec["init"] is None or (spec["quant"] == "none" and dtype == "float32"):
        lent.place()  # W is used as it is, or its base takes as much
    expected = lent.logits(prompts)
    if spec["init"] is None:
        return Prepared(base, tokenizer, examples, lengths, None)  # nothing is added to W
    if init is None:
        raise UserError("--init: the folder of the initial factors is not given.")
    if not (head or spec["lora"].get("use_dora")):  # PEFT copies the head, and takes norms of W, in float32
        lent.dtype = DTYPES[dtype]
    set_base(base, factors.load(init, stored), spec["quant"], dtype, pack=True, lent=lent)
    lent.place()
    lora = classes.in_training(base, spec["lora"]) if head else spec["lora"]
    model = attach(base, init, {"lora_dropout": settings["dropout"], **lora})
    exact = spec["quant"] == "none" and not methods.load(spec["method"]).MOVES
    if exact or dtype == "float32":
        with lent.lending():
            moved = relative_difference(logits(model, prompts), expected)
        if exact and not moved <= START_UP:  # NaN too
            raise UserError(
                f"start-up: base + sBA moves the model's logits by {moved:.1e}. Is the init another model's?"
            )
    if dtype != "float32":
        if head:
            classes.widen(model.get_base_model(), classes.modules(base))
        cast((p for p in model.parameters() if not p.requires_grad), dtype)
        moved = relative_difference(logits(model, prompts), expected)
    return Prepared(model, tokenizer, examples, lengths, moved)


def _examples(
    rows: list[dict[str, Any]], model: Any, tokenizer: "PreTrainedTokenizerBase", spec: TrainSpec
) -> tuple[list[Example] | list[Classified], Lengths]:
    """The rows in tokens, as a model of this architecture learns from them."""
    from pissa_repro.model.architecture import CLASSIFICATION, architecture

    kind, settings = architecture(model.config), spec["settings"]
    if kind is CLASSIFICATION:
        return classified(rows, tokenizer, settings["max_length"], model.config.label2id)
    return tokenize(rows, tokenizer, settings["max_length"], named(spec), settings.get("loss", RESPONSE), kind)


def check_dtypes(model: Any, spec: TrainSpec) -> dict[str, list[str]]:
    """Trained parameters are float32, the base as the spec says (pitfalls 12 to 15); for the record."""
    from pissa_repro.model import checks

    dtypes, wanted = checks.dtypes(model), spec["settings"]["dtype"]
    if dtypes["trained"] != ["float32"] or not set(dtypes["frozen"]) <= {wanted, "uint8"}:
        raise UserError(f"dtypes: {dtypes}; the spec asks for float32 factors on a base of {wanted}.")
    return dtypes


def write_steps(path: Path, history: list[dict[str, Any]]) -> list[Step]:
    """Write step, loss, learning_rate and grad_norm (before clipping) of every step as CSV.

    Floats are written in full, so that two runs can be compared to the last bit.
    """
    rows = [
        Step(step=e["step"], loss=e["loss"], learning_rate=e["learning_rate"], grad_norm=e["grad_norm"])
        for e in history
        if "grad_norm" in e
    ]
    write_csv(path, tuple(Step.__annotations__), rows)
    return rows


def save_trained(model: Any, folder: Path, init: Path | None) -> None:
    """Save what was trained in a folder: all weights, or the factors that began as those in `init`; and the classes."""
    from pissa_repro.model import adapter, classes, factors
    from pissa_repro.model.architecture import CLASSIFICATION, architecture

    if init is None:
        model.save_pretrained(folder)
    else:
        adapter.save_trained(model, folder / factors.TRAINED, init)
    if architecture(model.config) is CLASSIFICATION:
        classes.write(folder, model.config)


def verified(trained: Path, init: Path | None) -> dict[str, str]:
    """The content of a trained cell's folder, whose training has recorded the same, and the same start.

    init: of a cell with factors. Raises UserError for a folder that is not what the record beside it tells of.
    """
    from pissa_repro.model import factors

    path, found = paths.Cell(trained.parent).train, content(trained)
    record: TrainRecord = read_json(path)
    wanted = record.get("trained_sha256") if isinstance(record, dict) else None
    if not isinstance(wanted, dict) or "start_sha256" not in record:
        raise UserError(f"{path}: no record of a training by this version. Delete it and run again.")
    if changed := sorted(name for name in found | wanted if found.get(name) != wanted.get(name)):
        raise UserError(
            f"{trained}: {', '.join(changed)}: not as the training left it ({path}). Put it back, or delete "
            "that record and run again: the cell is then trained again."
        )
    if init and factors.sha256(init) != record["start_sha256"]:
        raise UserError(f"{trained}: trained from other factors than {init} holds now. Delete {path} and run again.")
    return found


def build_record(
    made: MadeFrom, identity: Identity, prepared: Prepared, trainer: "Trainer", rows: list[Step]
) -> TrainFacts:
    """The facts of the training record; the final loss is the mean over the last tenth of the steps.

    A training that diverged has no final loss; its step is in `diverged`, which no other record has.
    """
    from pissa_repro.model.architecture import architecture

    tail = rows[-max(1, len(rows) // 10) :]
    options, kind = trainer.args, architecture(prepared.model.config)
    lost = diverged.step_of(rows)
    return {
        **({"diverged": lost} if lost else {}),  # type: ignore[typeddict-item]
        "spec": made["spec"],
        **identity,
        "architecture": kind.name,
        "start_sha256": made["start"],
        "start_up": {"logits_difference": prepared.logits_difference},
        "trainable_parameters": trainer.get_num_trainable_parameters(),
        "steps": len(rows),
        "final_loss": None if lost else sum(row["loss"] for row in tail) / len(tail),
        "first_grad_norm": rows[0]["grad_norm"],
        "lengths": prepared.lengths.as_dict(),
        **facts(make_style(named(made["spec"]), prepared.tokenizer, kind)),
        "batch": {
            "effective": options.train_batch_size * options.gradient_accumulation_steps * options.world_size,
            "micro": options.per_device_train_batch_size,
            "accumulation": options.gradient_accumulation_steps,
            "processes": options.world_size,
        },
    }
