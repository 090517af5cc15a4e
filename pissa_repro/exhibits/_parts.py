"""Which cells the paper's exhibits show, and which records they are made from. No exhibit itself; imports no pandas."""

from collections.abc import Collection
from pathlib import Path

from pissa_repro.plan.labels import paper_method
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

Pair = tuple[str, str]  # a method in the paper's words (plan/labels.py, paper_method) and a quantization
FULL, LORA, PISSA = ("full", "none"), ("lora", "none"), ("pissa", "none")
QLORA, LOFTQ, QPISSA = ("lora", "nf4"), ("loftq", "nf4"), ("pissa", "nf4")
GAUSSIAN, MIDDLE, MINOR = ("lora_gaussian", "none"), ("middle", "none"), ("milora", "none")
DORA, PISSA_DORA = ("lora+dora", "none"), ("pissa+dora", "none")
ADALORA, PISSA_ADALORA = ("adalora", "none"), ("pissa_adalora", "none")


def part(sweep: Sweep, pairs: Collection[Pair], *models: str) -> Sweep:
    """The part of the sweep with these methods, and with the models that the paper calls so, if any are given.

    It has no cells where the sweep has none of them.
    """
    config = sweep.config["sweep"]
    cells = [cell for cell in config["cells"] if pair_of(sweep, cell["method"], cell["quant"]) in pairs]
    paper = {name: sweep.config["models"][name].get("paper") for name in config["models"]}
    kept = [name for name in config["models"] if not models or paper[name] in models]
    return sweep.narrowed(cells=cells, models=kept)


def others(sweep: Sweep, *models: str) -> Sweep:
    """The part of the sweep without the models that the paper calls so."""
    defined = sweep.config["models"]
    return sweep.narrowed(
        models=[name for name in sweep.config["sweep"]["models"] if defined[name].get("paper") not in models]
    )


def pair_of(sweep: Sweep, method: str, quant: str) -> Pair:
    """A method of the config in the paper's words, and its quantization; no word of the paper for an unknown one."""
    return paper_method(sweep.definition(method)) or "", quant


def pairs_of(sweep: Sweep) -> set[Pair]:
    """The methods and quantizations that a part has cells of."""
    return {pair_of(sweep, cell.method, cell.quant) for cell in sweep.cells.values()}


def trained(sweep: Sweep) -> list[Path]:
    """The records of the trainings."""
    return [paths.cell(name).train for name in sweep.cells]


def curves(sweep: Sweep) -> list[Path]:
    """Loss and gradient norm of every step of the trainings."""
    return [paths.cell(name).steps for name in sweep.cells]


def scored(sweep: Sweep) -> list[Path]:
    """The records of trainings, scores and items of every swept task, and the quantization errors of the starts."""
    homes, tasks = [paths.cell(name) for name in sweep.cells], sweep.config["sweep"]["tasks"]
    scores = [path for home in homes for task in tasks for path in (home.score(task), home.samples(task))]
    errors = [paths.start_error(name) for name, cell in sweep.starts.items() if cell.quant != "none"]
    return [*trained(sweep), *scores, *errors]


def over_ranks(sweep: Sweep) -> Sweep:
    """The part where it has several ranks; else without any cells."""
    several = len({cell.rank for cell in sweep.cells.values() if cell.rank}) > 1
    return sweep if several else part(sweep, ())
