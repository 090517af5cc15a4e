"""Score what a trained cell generated on one task, by lm-eval and the task's answer rules."""

import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

from pissa_repro.plan.sweep import scoring
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import read_json, read_lines, sha256, write_json, write_lines
from pissa_repro.runtime.record_types import MetricValue, Sample, ScoreFacts, ScoreRecord
from pissa_repro.runtime.specs import EvaluateSpec
from pissa_repro.scoring import generations
from pissa_repro.sources.prompt import named
from pissa_repro.sources.split import seen_in_training

log = logging.getLogger(__name__)


def score(
    spec: EvaluateSpec, rows: Path, kept: generations.Generations, trained_on: Path | None = None
) -> tuple[dict[str, Any], list[Sample]]:
    """The record of a score, less its provenance, and the samples. trained_on: the rows of the cell's training.

    A training that diverged gets a record without metrics, and no samples. Raises UserError when items are not
    generated yet, or were generated from another spec or other rows.
    """
    if kept.origin["spec"] != spec["generate"] or kept.origin["data_sha256"] != sha256(rows):
        other = "another spec" if kept.origin["spec"] != spec["generate"] else "other rows"
        raise UserError(f"{kept.path}: generated from {other}. Delete it and run again.")
    if kept.refused:
        raise UserError(kept.refused)
    seen = _seen(rows, trained_on) if trained_on else None
    if kept.diverged:
        return {**_unscored(spec, kept, kept.diverged), "seen_in_training": seen}, []
    graded = judge_items(spec, rows, kept.turns, kept.path)
    facts = ScoreFacts(
        spec=spec,
        base=kept.origin["base"],
        data_sha256=kept.origin["data_sha256"],
        trained_sha256=kept.origin["trained_sha256"],
        metrics=graded.metrics,
        checks=kept.runs[-1]["checks"],
        prompts_cut=kept.runs[-1]["prompts_cut"],
        seen_in_training=seen,
        generated={"seconds": round(kept.seconds, 3), "tokens": kept.tokens, "runs": kept.runs},
    )
    return {**facts, **graded.facts}, graded.samples


def _unscored(spec: EvaluateSpec, kept: generations.Generations, step: int) -> dict[str, Any]:
    """The facts of the score that a diverged training does not have."""
    made = {key: kept.origin[key] for key in ("base", "data_sha256", "trained_sha256")}
    nothing = {"metrics": {}, "checks": {}, "prompts_cut": 0, "generated": {"seconds": 0.0, "tokens": 0, "runs": []}}
    return {"spec": spec, **made, **nothing, "diverged": step}


def _seen(rows: Path, trained_on: Path) -> int | None:
    """How many of the scored rows the training had, too; a warning when there are any, a word when nobody can say."""
    count = seen_in_training(rows, trained_on)
    if count is None:
        log.info("not counted which rows of %s are in %s: one has prompts, the other plain texts", rows, trained_on)
    if count:
        log.warning("%d of the rows of %s have a prompt that is also in the training's %s", count, rows, trained_on)
    return count


class Graded(NamedTuple):
    """What the task's rules say. facts: the task's own, for the record, such as which sandbox ran programs."""

    metrics: dict[str, MetricValue]
    facts: dict[str, Any]
    samples: list[Sample]


def judge_items(spec: EvaluateSpec, rows: Path, turns: dict[int, list[Any]], path: Path) -> Graded:
    """Apply the task's rules.

    turns: what was generated for each item. path: the file that it comes from, for messages and for
    what a judge says, which is kept beside it.
    """
    from pissa_repro.scoring import harness

    task = harness.Task(spec["generate"]["task"], rows, spec["generate"]["max_new_tokens"])
    missing = [i for i in task.ids if task.wants(turns.get(i, []))]
    if missing:
        raise UserError(f"{path}: {len(missing)} of {len(task.ids)} items are not generated yet. {generations.AGAIN}")
    with task.rules.keeping(paths.judgements(path)):
        metrics, samples = task.score(turns, named(spec["generate"]["train"]))
        return Graded(metrics, task.rules.facts(), samples)


def rescore(path: Path, data: Path | None) -> str:
    """Apply today's rules to the samples of a record, write both anew, and say what has changed."""
    started = time.perf_counter()
    record: ScoreRecord = read_json(path)
    if step := record.get("diverged"):
        return f"{path}: the training diverged at step {step}: no items, nothing to score"
    if data and sha256(data) != record["data_sha256"]:
        raise UserError(f"{path}: made from other rows than {data}.")
    kept, rows = paths.samples(path), data or find_rows(path, record["data_sha256"])
    before: dict[int, Sample] = {sample["id"]: sample for sample in read_lines(kept)}
    answers = {item: sample["generated"] for item, sample in before.items()}
    turns = {item: answer if isinstance(answer, list) else [answer] for item, answer in answers.items()}
    spec = scoring(record["spec"]["generate"])
    origin = generations.place(paths.cell_of(path), path.stem, spec["generate"])
    metrics, facts, samples = judge_items(spec, rows, turns, origin)
    write_lines(kept, samples)
    write_json(path, {**record, "spec": spec, "metrics": metrics, **facts, "provenance": provenance(started)})
    changed = sum(any(sample[name] != before[sample["id"]].get(name) for name in metrics) for sample in samples)
    return f"{path}: {changed} of {len(samples)} items changed; {summary(metrics)}"


def find_rows(path: Path, wanted: str) -> Path:
    """The fetched rows that a record was made from, by their hash, in the results folder that it lies in."""
    for folder in path.resolve().parents:
        for rows in sorted(paths.rows_folder(folder).glob("*.jsonl")):
            if sha256(rows) == wanted:
                return rows
    raise UserError(f"{path}: no rows with the hash {wanted[:12]} under {paths.rows_folder()}. Give them with --data.")


def summary(metrics: dict[str, MetricValue]) -> str:
    """The metrics in a line: as fractions of 1, or in the task's own unit."""
    parts = (
        f"{name} {m['value']:.4f}" + (f" +- {m['stderr']:.4f}" if m["stderr"] else "") for name, m in metrics.items()
    )
    return ", ".join(parts)
