"""Where everything lies below results/, figures/, logs/ and scratch/. No other module spells these paths.

The rules give wildcards for names ("{cell}"), and ask for the same paths for each job: what many jobs share is kept.
`results` is the folder of records: another one in tests and by hand.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

RESULTS, FIGURES, LOGS = (Path(name) for name in ("results", "figures", "logs"))
SCRATCH = Path("scratch")  # checkpoints, in a folder a cell. No outputs: Snakemake deletes those of a failed job
DECOMPOSED = SCRATCH / "spectrum"  # kept decompositions; may be deleted
PRELOADED = "PISSA_REPRO_PRELOADED"  # the variable with pid:socket of the process that forks for jobs (preloaded.py)
SAMPLES, JUDGEMENTS = ".samples.jsonl", ".judgements.jsonl"  # the endings of what is beside the record of a score


def at(path: Path, results: Path) -> Path:
    """Where a path of these functions lies when the folder of records is `results`, and the other folders beside it."""
    if path.parts[0] == RESULTS.name:
        return results.joinpath(*path.parts[1:])
    return home(results) / path


def home(results: Path) -> Path:
    """The folder that holds results/, logs/ and scratch/: where the sweep runs."""
    return results.parent if results.name else results.resolve().parent


@dataclass(frozen=True)
class Cell:
    """The files of one trained cell, in its folder."""

    folder: Path

    @property
    def train(self) -> Path:
        """The record of the training."""
        return self.folder / "train.json"

    @property
    def steps(self) -> Path:
        """Loss, learning rate and gradient norm of every step."""
        return self.folder / "train_steps.csv"

    @property
    def trained(self) -> Path:
        """The folder of trained factors or weights."""
        return self.folder / "trained"

    @property
    def trained_error(self) -> Path:
        """The error of the trained factors, by the base that they are evaluated on."""
        return self.folder / "trained_error.json"

    @property
    def updates(self) -> Path:
        """How far the training has moved each module, and the spectrum of that."""
        return self.folder / "updates.json"

    @property
    def generated(self) -> Path:
        """The folder of what the cell has generated, item by item."""
        return self.folder / "generated"

    def score(self, task: str) -> Path:
        """The record of a score."""
        return self.folder / "eval" / f"{task}.json"

    def samples(self, task: str) -> Path:
        """The items behind a score."""
        return samples(self.score(task))

    def scored(self) -> list[str]:
        """The tasks that have the record of a score, sorted."""
        return sorted(path.stem for path in self.score("*").parent.glob("*.json"))


def samples(record: Path) -> Path:
    """The items behind a score, beside its record."""
    return record.with_name(record.stem + SAMPLES)


def judgements(record: Path) -> Path:
    """What a judge said of the items, beside the record of a score."""
    return record.with_name(record.stem + JUDGEMENTS)


def cell_of(record: Path) -> Cell:
    """The cell whose score is recorded there."""
    return Cell(record.parent.parent)


def cells(results: Path = RESULTS) -> Path:
    """The folder of all cells."""
    return results / "cells"


@functools.cache
def cell(name: str, results: Path = RESULTS) -> Cell:
    """The files of a cell: model/data/method-quant-rank-rate-seed."""
    return Cell(cells(results) / name)


def scratch(name: str) -> Path:
    """The folder of a cell's checkpoints."""
    return SCRATCH / name


@functools.cache
def model(name: str, results: Path = RESULTS) -> Path:
    """The record of a fetched model."""
    return results / "fetch" / "models" / f"{name}.json"


def rows_folder(results: Path = RESULTS) -> Path:
    """The folder of all fetched datasets."""
    return results / "fetch" / "data"


@functools.cache
def rows(data: str, results: Path = RESULTS) -> Path:
    """The rows of a fetched dataset."""
    return rows_folder(results) / f"{data}.jsonl"


@functools.cache
def data(name: str, results: Path = RESULTS) -> Path:
    """The record of a fetched dataset."""
    return rows_folder(results) / f"{name}.json"


def admissions() -> Path:
    """The folder of the records of what was checked before any work."""
    return RESULTS / "admit"


def admission(purpose: str, model: str) -> Path:
    """The record of what was checked of a model, for the "sweep" or the "studies"."""
    return admissions() / purpose / f"{model}.json"


def all_statistics(results: Path = RESULTS) -> Path:
    """The folder of all statistics of data."""
    return results / "statistics"


def statistics(name: str, results: Path = RESULTS) -> Path:
    """A statistic of a model's modules: model/data/kind-rows-seed-digest, a file a module."""
    return all_statistics(results) / name


def statistics_record(name: str, results: Path = RESULTS) -> Path:
    """The record of a statistic, in its folder."""
    return statistics(name, results) / "statistics.json"


def starts(results: Path = RESULTS) -> Path:
    """The folder of all initial factors."""
    return results / "init"


@functools.cache
def start(name: str, results: Path = RESULTS) -> Path:
    """The folder of initial factors: model/method-quant-rank-seed."""
    return starts(results) / name


def start_record(name: str, results: Path = RESULTS) -> Path:
    """The record of initial factors, in their folder."""
    return start(name, results) / "init.json"


def start_error(name: str, results: Path = RESULTS) -> Path:
    """The quantization error of initial factors."""
    return results / "quant_error" / f"{name}.json"


def batches(results: Path = RESULTS) -> Path:
    """The folder of the batches' records."""
    return results / "generated"


@functools.cache
def batch(name: str, results: Path = RESULTS) -> Path:
    """The record of a batch of cells that one launch of an engine has generated."""
    return batches(results) / f"{name}.json"


def parity(cell: str, first: str, second: str, results: Path = RESULTS) -> Path:
    """The comparison of two tasks of a cell that differ in their back-end alone."""
    return results / "parity" / cell / f"{first}~{second}.json"


def scores(results: Path = RESULTS) -> Path:
    """The table of all scores of a sweep."""
    return results / "scores.csv"


def studies(results: Path = RESULTS) -> Path:
    """The folder of all studies."""
    return results / "studies"


def study(model: str, name: str, results: Path = RESULTS) -> Path:
    """What a study has measured on a model: "solvers.csv"."""
    return studies(results) / model / name


def toy(results: Path = RESULTS) -> Path:
    """The record of the toy, which has a model of its own."""
    return studies(results) / "toy.json"


def pretrained(results: Path = RESULTS) -> Path:
    """The embedded model, made again from its recipe."""
    return results / "embedded" / "model"


def table(place: str, ending: str = "csv", results: Path = RESULTS) -> Path:
    """A table by its place: "gsm8k_table", "paper/table8", "extra/trained_as"."""
    return results / f"{place}.{ending}"


def figure(place: str, ending: str = "svg") -> Path:
    """A figure by its place: "paper/figure14", "extra/depth"."""
    return FIGURES / f"{place}.{ending}"


def log(*names: str) -> Path:
    """The log of a job: its rule, then what is made."""
    return LOGS.joinpath(*names[:-1], f"{names[-1]}.log")
