"""Score what a trained cell generated on one task, by lm-eval and the task's answer rules."""

import time
from pathlib import Path
from typing import Any

from pissa_repro.plan.sweep import STAGE_VERSION
from pissa_repro.runtime import gpus, paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import read_json, read_lines, write_json, write_lines
from pissa_repro.scoring import engines, generations
from pissa_repro.scoring.generator import Generator, Job
from pissa_repro.sources.fetched import sha256, stored_model


def score(spec: dict[str, Any], rows: Path, kept: generations.Generations) -> tuple[dict[str, Any], list[dict]]:
    """The record of a score, less its provenance, and the samples.

    Raises UserError when items are not generated yet, or were generated from another spec or other rows.
    """
    if kept.origin["spec"] != spec["generate"] or kept.origin["data_sha256"] != sha256(rows):
        other = "another spec" if kept.origin["spec"] != spec["generate"] else "other rows"
        raise UserError(f"{kept.path}: generated from {other}. Delete it and run again.")
    if kept.refused:
        raise UserError(kept.refused)
    found, samples = judge_items(spec, rows, kept.turns, kept.path)
    record = {
        "spec": spec,
        **{key: kept.origin[key] for key in ("base", "data_sha256", "trained_sha256")},
        **found,
        **{key: kept.runs[-1][key] for key in ("checks", "prompts_cut")},
        "generated": {"seconds": round(kept.seconds, 3), "tokens": kept.tokens, "runs": kept.runs},
    }
    return record, samples


def judge_items(
    spec: dict[str, Any], rows: Path, turns: dict[int, list[Any]], path: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Apply the task's rules: {"metrics", and the task's own facts, such as which sandbox ran programs}, samples.

    turns: what was generated for each item. path: the file that it comes from, for messages and for
    what a judge says, which is kept beside it.
    """
    from pissa_repro.scoring import harness

    task = harness.Task(spec["generate"]["task"], rows, spec["generate"]["max_new_tokens"])
    missing = [i for i in task.ids if task.request(i, turns.get(i, []))]
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(task.ids)} items are not generated yet. {generations.AGAIN}")
    with task.rules.keeping(paths.judgements(path)):
        metrics, samples = task.score(turns)
        return {"metrics": metrics, **task.rules.facts()}, samples


def rescore(path: Path, data: Path | None) -> str:
    """Apply today's rules to the samples of a record, write both anew, and say what has changed."""
    started, record = time.perf_counter(), read_json(path)
    if data and sha256(data) != record["data_sha256"]:
        raise UserError(f"{path}: made from other rows than {data}.")
    kept, rows = paths.samples(path), data or find_rows(path, record["data_sha256"])
    before = {sample["id"]: sample for sample in read_lines(kept)}
    turns = {
        i: one["generated"] if isinstance(one["generated"], list) else [one["generated"]] for i, one in before.items()
    }
    spec = {**record["spec"], "version": STAGE_VERSION["evaluate"]}
    origin = generations.place(paths.cell_of(path), path.stem, spec["generate"])
    found, samples = judge_items(spec, rows, turns, origin)
    write_lines(kept, samples)
    write_json(path, {**record, "spec": spec, **found, "provenance": provenance(started)})
    changed = sum(any(one[name] != before[one["id"]].get(name) for name in found["metrics"]) for one in samples)
    return f"{path}: {changed} of {len(samples)} items changed; {summary(found['metrics'])}"


def find_rows(path: Path, wanted: str) -> Path:
    """The fetched rows that a record was made from, by their hash, in the results folder that it lies in."""
    for folder in path.resolve().parents:
        for rows in sorted(paths.rows_folder(folder).glob("*.jsonl")):
            if sha256(rows) == wanted:
                return rows
    raise UserError(f"{path}: no rows with the hash {wanted[:12]} under {paths.rows_folder()}. Give them with --data.")


def summary(metrics: dict[str, dict[str, Any]]) -> str:
    """The metrics in a line: as fractions of 1, or in the task's own unit."""
    parts = (
        f"{name} {m['value']:.4f}" + (f" +- {m['stderr']:.4f}" if m["stderr"] else "") for name, m in metrics.items()
    )
    return ", ".join(parts)


def complete(args: Any) -> None:
    """Generate here what the generate stage has not."""
    spec = args.spec["generate"]
    engines.check(spec["backend"], args.gpus, args.tensor_parallel)
    gpus.take(args.gpus)
    job = Job(str(args.generations), spec, args.init, args.trained, args.data, args.generations)
    Generator(stored_model(args.model), args.batch_size, args.tensor_parallel).run([job])
