"""Train one cell with TRL's SFTTrainer (transformers' own for encoder-decoders and classes), in the paper's setting.

python -m pissa_repro.stages.train --spec "$SPEC" --model MODEL.json --data DATA.jsonl \
    --init DIR --scratch DIR --trained DIR --record train.json --steps train_steps.csv

Writes what was trained, the record, and loss, learning rate and unclipped gradient norm of every step.
--trained gets factors/, which is what the other stages read, and beside it a plain LoRA where one is exact;
for full fine-tuning a whole model. Its README.md says how others load it. Checkpoints go to --scratch; after
a kill the same command goes on from the last whole one. SIGTERM, and SIGUSR1 by which a batch system warns of the end
of a job's time, write one at the end of the step; after SIGUSR1 the training puts its Slurm job back into the queue.
A training that diverges ends at that step: the record says so, and --trained holds a README.md alone.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path

from pissa_repro.runtime import gpus, processes, walltime
from pissa_repro.runtime.errors import UserError, run_stage, writing
from pissa_repro.runtime.lock import alone
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import atomic_folder, content, write_json
from pissa_repro.runtime.record_types import TrainRecord
from pissa_repro.sources.fetched import identities, stored_model
from pissa_repro.stages.options import add_how, how_of, stage_parser
from pissa_repro.training import diverged, sinks, stopping
from pissa_repro.training.cell import (
    build_record,
    check_dtypes,
    made_from,
    prepare,
    save_trained,
    split_batch,
    write_steps,
)

log = logging.getLogger(__name__)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = stage_parser(
        __doc__, "spec", "model", "data", "init", "gpus",
        scratch="folder for checkpoints, removed at the end",
        trained="folder to write the trained weights to",
        record="the record to write",
        steps="the CSV of every step to write",
    )  # fmt: skip
    parser.add_argument("--checkpoint-steps", type=int, default=50, help="steps between checkpoints (default 50)")
    add_how(parser)
    parser.add_argument(
        "--report-to", default=sinks.NONE, help=f"show the curve in: {', '.join(sinks.MODULES)}; or none"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    processes.end_with_launcher()
    args = arguments(argv)
    watch = sinks.watched(args.report_to, args.trained.parent)
    alone_here = processes.is_first() and not processes.launched()  # of several processes one takes the lock for all
    with (
        alone(args.scratch, "training in") if alone_here else contextlib.nullcontext(-1) as lock,
        walltime.Stop().listening(signal.SIGUSR1) as stop,
    ):
        gpus.take(args.gpus)
        if args.gpus > 1 and "WORLD_SIZE" not in os.environ:  # one process a card
            walltime.ignored()  # by the processes, too, until each of them listens
            command = [sys.executable, "-m", __spec__.name, *(sys.argv[1:] if argv is None else argv)]
            if args.sharding == processes.AUTO:
                command += ["--sharding", chosen(args)]
            processes.run(command, args.gpus, (*gpus.held(), lock))
        else:
            run(args, watch, stop)


def chosen(args: argparse.Namespace) -> str:
    """What `--sharding auto` is on the cards that this process has."""
    from pissa_repro.model.size import of_folder
    from pissa_repro.training import memory

    size = of_folder(Path(stored_model(args.model)["path"]))
    sharding, why = memory.chosen(size, args.spec, args.gpus, gpus.smallest())
    log.info("%s", why)
    return sharding


def run(args: argparse.Namespace, watch: sinks.Watched, stop: walltime.Stop) -> None:
    """Train the cell that the arguments name, on the cards that this process has."""
    started = time.perf_counter()
    from pissa_repro.adapters.trained import Trained, finish
    from pissa_repro.model.update import mean_update
    from pissa_repro.training import micro
    from pissa_repro.training import trainer as trainers
    from pissa_repro.training.compiled import check_compiler
    from pissa_repro.training.precision import products
    from pissa_repro.training.sharding import make_whole

    stored, spec = stored_model(args.model), args.spec
    world = int(os.environ.get("WORLD_SIZE", "1"))
    how = how_of(args, world)
    if how.compiled:
        check_compiler()
    host = "cpu" if how.sharding == processes.FULL else None  # the whole model may not fit a card
    prepared = prepare(spec, stored, args.data, args.init, host)
    log.info("%s", {k: v for k, v in prepared.lengths.as_dict().items() if v})
    identity = identities(stored, args.data)
    made = made_from(spec, identity, args.init)
    scratch = trainers.Scratch(args.scratch, made)
    share = split_batch(spec["settings"]["batch_size"], how.micro or 1, world)
    sinks.start(watch)
    trainer = trainers.build(prepared, spec, scratch, share, args.checkpoint_steps, watch, stop, how)
    dtypes = check_dtypes(trainer.model, spec)
    if trainer.args.train_batch_size != share.micro:  # the Trainer would use every GPU that it sees
        raise UserError(f"--gpus: a process has to see one GPU, this one sees {trainer.args.n_gpu}.")
    with writing(args.scratch), stop.listening(signal.SIGTERM), products(spec["settings"]):
        if how.micro is None:
            micro.choose(trainer, prepared.examples, share.accumulation, how.sharding == processes.FULL)
        before = time.perf_counter()
        trainer.train(resume_from_checkpoint=scratch.last())
    stopping.check_ended(trainer.state, stop)
    seconds = time.perf_counter() - before
    make_whole(trainer)
    if not trainer.is_world_process_zero():
        return
    rows = write_steps(args.steps, trainer.state.log_history)
    facts = build_record(made, identity, prepared, trainer, rows)
    lost = facts.get("diverged")
    with atomic_folder(args.trained) as unfinished:
        if lost:
            diverged.save(unfinished, lost)
        else:
            save_trained(trainer.model, unfinished, args.init)
            cell = args.trained.resolve().parent.name
            finish(Trained(unfinished, args.init, stored, cell, Path(args.model).stem), facts)
    record = TrainRecord(
        **facts,
        trained_sha256=content(args.trained),
        dtypes=dtypes,
        train_seconds=scratch.seconds_before + seconds,
        update=None if lost else mean_update(trainer.model, stored, spec["quant"], args.init),
        resumed_from=scratch.resumed_from,
        **how.recorded(trainer.args.gradient_checkpointing),  # type: ignore[typeddict-item]
        provenance=provenance(started),
    )
    write_json(args.record, record)
    scratch.remove()
    end = f"diverged at step {lost}" if lost else f"final loss {record['final_loss']:.4f}"
    log.info("%s after %d steps, %.1f s", end, record["steps"], record["train_seconds"])


if __name__ == "__main__":
    run_stage(main)
