"""Cells written for other people's tools: a new folder with a file for each, in one of three formats."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pissa_repro.exchange import every_eval, hub_results, peft_write, scored
from pissa_repro.exchange.scored import Scored
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.record import atomic_folder, refuse_existing
from pissa_repro.tasks import METRIC

HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
Files = Iterator[tuple[str, str]]  # path inside the folder, text


@dataclass(frozen=True)
class Asked:
    """What is exported, as the command has it: cells, format, folder; None: not given.

    task: of each cell; metric: of the formats with one number. organization, model: of every-eval-ever. benchmark,
    leaderboard, url: of the hub.
    """

    cells: tuple[Path, ...]
    form: str
    out: Path
    task: str | None = None
    metric: str | None = None
    organization: str | None = None
    model: str | None = None
    benchmark: str | None = None
    leaderboard: str | None = None
    url: str | None = None


def export(asked: Asked) -> list[str]:
    """Write the files; a line on each. Raises UserError before anything is written."""
    refuse_existing(asked.out)
    if asked.form not in FORMS:
        raise unknown("format", asked.form, FORMS, "--as")
    write, options = FORMS[asked.form]
    _check(asked, options)
    files: dict[str, str] = {}
    for folder in asked.cells:
        for path, text in write(asked, scored.read(folder, asked.task)):
            if files.setdefault(path, text) != text:
                raise UserError(f"CELL {folder}: would be written to {path}, as another one. Export them one by one.")
    with atomic_folder(asked.out) as unfinished:
        for path, text in files.items():
            (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / path).write_text(text, encoding="utf-8")
    return sorted(files)


def _check(asked: Asked, options: tuple[str, ...]) -> None:
    """Raise UserError for an option that the format has no use for, and for an id that is none."""
    for name in ("metric", "organization", "model", "benchmark", "leaderboard", "url"):
        if getattr(asked, name) is not None and name not in options:
            raise UserError(f"--{name}: --as {asked.form} has no place for it; it takes {', '.join(options)}.")
    for name in ("model", "benchmark"):
        if (given := getattr(asked, name)) is not None and not HUB_ID.fullmatch(given):
            raise UserError(f"--{name}: '{given}' is no hub id (owner/name).")
    if asked.url and not asked.url.startswith(("https://", "http://")):
        raise UserError(f"--url: '{asked.url}' is no address (https://...).")
    if asked.model and len(asked.cells) > 1:
        raise UserError(f"--model: names one model, and {len(asked.cells)} cells are given.")


def _one(asked: Asked, cell: Scored) -> str:
    """The task of a format with one number. Raises UserError where several are scored."""
    if len(cell.scores) > 1:
        raise UserError(f"CELL {cell.folder}: has scores on {', '.join(cell.scores)}; choose one with --task.")
    return next(iter(cell.scores))


def _json(content: dict[str, object]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _peft(asked: Asked, cell: Scored) -> Files:
    content = peft_write.document(cell, _one(asked, cell), asked.metric or METRIC)
    yield f"{content['run_info']['experiment_name'].replace('/', '--')}.json", _json(content)


def _every_eval(asked: Asked, cell: Scored) -> Files:
    if not asked.organization:
        raise UserError("--organization: who reports these results? The format asks for a name.")
    path, content = every_eval.document(cell, asked.organization, asked.model, time.time())
    yield path, _json(content)


def _hub(asked: Asked, cell: Scored) -> Files:
    task = _one(asked, cell)
    metric, leaderboard = asked.metric or METRIC, asked.leaderboard or "default"
    text = hub_results.document(cell, task, metric, asked.benchmark, leaderboard, asked.url)
    yield f"{cell.name}/.eval_results/{task}.yaml", text


FORMS: dict[str, tuple[Callable[[Asked, Scored], Files], tuple[str, ...]]] = {
    "peft": (_peft, ("metric",)),
    "every-eval-ever": (_every_eval, ("organization", "model")),
    "hub": (_hub, ("metric", "benchmark", "leaderboard", "url")),
}
