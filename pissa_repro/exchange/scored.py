"""A scored cell as the exporters see it: its records, what they are of, and where its numbers come from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pissa_repro import embedded, tasks
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.provenance import code
from pissa_repro.runtime.record import canonical, read_json
from pissa_repro.runtime.record_types import MetricValue, ScoreRecord
from pissa_repro.sources.prompt import named

PERCENT = "percent"
CELL = "CELL {}: not a scored cell: results/cells/MODEL/DATA/CELL, with train.json and eval/<task>.json."


@dataclass(frozen=True)
class Rows:
    """What is known of rows: their name in the config, and where they came from, both None where their record has gone.

    sha256: of the rows; commit: of the hub's repository.
    """

    sha256: str
    name: str | None = None
    hub: str | None = None
    commit: str | None = None


@dataclass(frozen=True)
class Scored:
    """A cell with its scores by task. train: the record of its training, or of its adoption."""

    folder: Path
    train: dict[str, Any]
    scores: dict[str, ScoreRecord]

    @property
    def name(self) -> str:
        """Model, data and cell in one word, which no other cell of the same results has."""
        return "--".join(self.folder.parts[-3:])

    @property
    def asked(self) -> dict[str, Any]:
        """The spec of the training; of an adopted adapter it has no rate, no seed and no settings."""
        return self.train["spec"]

    @property
    def base(self) -> str:
        """The hub id of the base, or the last part of its folder's name: no path of this machine is published."""
        base = self.train["base"]
        from_hub = base["commit"] is not None or base["name"] == embedded.NAME
        return str(base["name"]) if from_hub else Path(base["name"]).name

    def rows(self, sha256: str) -> Rows:
        """What the records beside the cell know of rows with this hash."""
        results = self.folder.parents[3] if len(self.folder.parents) > 3 else self.folder
        for path in sorted(paths.rows_folder(results).glob("*.json")):
            record = read_json(path)
            if record.get("sha256") == sha256:
                return Rows(sha256, path.stem, record["spec"]["dataset"].get("hub"), record.get("commit"))
        return Rows(sha256)

    def metric(self, task: str, metric: str) -> MetricValue:
        """A number of a score. Raises UserError with the known ones."""
        metrics = self.scores[task]["metrics"]
        if metric not in metrics:
            raise unknown("metric", metric, metrics, f"CELL {self.folder}, {task}")
        return metrics[metric]

    def shown(self, task: str, metric: str) -> "Shown":
        """How a metric is shown, as its task file says today. Raises UserError for one that it no longer has."""
        file = self.scores[task]["spec"]["generate"]["task"]
        known = tasks.metrics(file)
        if metric not in known:
            raise unknown("metric", metric, known, f"CELL {self.folder}, {task}: pissa_repro/tasks/{file}.yaml")
        mean = known[metric]["aggregation"] == "mean"
        return Shown(tasks.metadata(file)["unit"] if mean else metric, bool(known[metric]["higher_is_better"]))

    def facts(self, task: str, metric: str) -> dict[str, Any]:
        """Where a number comes from: its cell and setting, n, standard error, spec, versions, commits, dirty flag.

        Plain types; what is not known is left out. `spec` holds the specs of generating and training.
        """
        score, init = self.scores[task], self.asked.get("init") or {}
        setting = {key: self.asked.get(key) for key in ("method", "quant", "learning_rate", "seed")}
        found = {
            "cell": "/".join(self.folder.parts[-3:]),
            **setting,
            "rank": init.get("rank") or self.train.get("rank"),
            "trained": self.train.get("trained"),
            "prompt": named(self.asked),
            "task": task,
            "metric": metric,
            "n": self.metric(task, metric)["n"],
            "stderr": self.metric(task, metric)["stderr"],
            "base": self.base,
            "base_commit": self.train["base"]["commit"],
            "base_sha256": self.train["base"]["fingerprint"],
            "rows_sha256": score["data_sha256"],
            "seen_in_training": score.get("seen_in_training"),
            "judge": score.get("judge"),
            "spec": score["spec"],
            "spec_sha256": hashlib.sha256(canonical(score["spec"]).encode()).hexdigest(),
            "versions_of_training": self.train["provenance"]["versions"],
            "versions_of_scoring": score["provenance"]["versions"],
            **code(self.train["provenance"], *score["generated"]["runs"], score["provenance"]),
        }
        return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True)
class Shown:
    """The unit of a metric, and which way is better."""

    unit: str
    higher_is_better: bool

    @property
    def fraction(self) -> bool:
        """Whether it lies between 0 and 1, and is shown in percent."""
        return self.unit == PERCENT


def read(folder: Path, task: str | None = None) -> Scored:
    """A cell and all its scores, or that of a task.

    Raises UserError where a record is missing, is of another layout, or of other trained weights, and for a training
    that diverged.
    """
    folder = folder.resolve()
    files = paths.Cell(folder)
    if not files.train.is_file() or not (known := files.scored()):
        raise UserError(CELL.format(folder))
    if task is not None and task not in known:
        raise unknown("task", task, known, f"CELL {folder}")
    train = read_json(files.train)
    if isinstance(train, dict) and (step := train.get("diverged")):
        raise UserError(f"CELL {folder}: its training diverged at step {step}: it has no score to export.")
    scores = {name: read_json(files.score(name)) for name in ([task] if task else known)}
    for name, score in scores.items():
        path = files.score(name)
        _check(path, score, ("spec", "metrics", "data_sha256", "trained_sha256", "generated", "provenance"))
        if score["trained_sha256"] != train.get("trained_sha256"):
            raise UserError(
                f"{path}: of other trained weights than {files.train} is. Delete it and run snakemake again."
            )
    _check(files.train, train, ("spec", "base", "provenance"))
    return Scored(folder, train, scores)


def _check(path: Path, record: Any, keys: tuple[str, ...]) -> None:
    """Raise UserError for a record of another layout."""
    missing = [key for key in keys if not isinstance(record, dict) or key not in record]
    if missing:
        raise UserError(f"{path}: no '{missing[0]}': a record of another version. Run snakemake to make it again.")
