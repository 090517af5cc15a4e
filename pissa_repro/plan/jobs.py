"""The jobs that a sweep's tables are made of: the record and the log of each, and whose records it needs first.

What the rules say to Snakemake (rules/inputs.smk), for those who look at a sweep without it. Imports no torch.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pissa_repro.plan import admission
from pissa_repro.plan.batches import Batches
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths


@dataclass(frozen=True, eq=False)
class Job:
    """A job, with paths as the rules spell them (runtime/paths.py, at).

    spec: builds what its record has to be made from; None for a table, whose age alone tells. model, data: whose
    weights and rows the record names. beside: what it writes beside the record. kinds: jobs of which others take as
    long, those most alike first, for a part of `size`; empty where it takes no time to speak of. place: what a running
    one has locked from its start to its end. journals: folders in which it locks one file after another.
    """

    stage: str
    name: str
    record: Path
    log: Path
    needs: tuple[Path, ...] = ()
    spec: Callable[[], Mapping[str, Any] | None] | None = None
    model: str = ""
    data: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()
    kinds: tuple[tuple[Hashable, ...], ...] = ()
    size: int = 1
    place: Path | None = None
    journals: tuple[Path, ...] = ()


def jobs(sweep: Sweep, batches: Batches) -> list[Job]:
    """The jobs of all scores of a sweep, each after those that it needs."""
    steps = (_fetched, _admitted, _statistics, _starts, _trained, _others)
    return [*(job for step in steps for job in step(sweep)), *_scores(sweep, batches), _collected(sweep)]


def _models(sweep: Sweep) -> list[str]:
    return list(dict.fromkeys(sweep.scored(name).model for name in (*sweep.cells, *sweep.others)))


def _fetched(sweep: Sweep) -> Iterator[Job]:
    """The models and the rows, each once."""
    for name in _models(sweep):
        yield Job("fetch", name, paths.model(name), paths.log("fetch", "models", name),
                  spec=partial(sweep.model_spec, name), kinds=(("fetch model",),))  # fmt: skip
    for name in dict.fromkeys([*_trained_on(sweep), *_asked(sweep), *_seen(sweep)]):
        yield Job("fetch", name, paths.data(name), paths.log("fetch", "data", name), beside=(paths.rows(name),),
                  spec=partial(sweep.data_spec, name), kinds=(("fetch data",),))  # fmt: skip


def _trained_on(sweep: Sweep) -> Iterator[str]:
    return (sweep.scored(name).data for name in (*sweep.cells, *sweep.others))


def _asked(sweep: Sweep) -> list[str]:
    """The datasets of the swept tasks."""
    return [sweep.config["tasks"][task]["dataset"] for task in sweep.config["sweep"]["tasks"]]


def _seen(sweep: Sweep) -> Iterator[str]:
    return (one.data for one in sweep.statistic_jobs.values())


def _admitted(sweep: Sweep) -> Iterator[Job]:
    for model in _models(sweep):
        spec = partial(admission.spec, sweep, "sweep", model)
        rows = [paths.data(path.stem) for path in admission.rows(spec())]
        yield Job("admit", model, paths.admission("sweep", model), paths.log("admit", "sweep", model),
                  (paths.model(model), *rows), spec, model, kinds=(("admit",),))  # fmt: skip


def _first(model: str) -> tuple[Path, Path]:
    """What every costly job of a model needs."""
    return paths.model(model), paths.admission("sweep", model)


def _statistics(sweep: Sweep) -> Iterator[Job]:
    for name, one in sweep.statistic_jobs.items():
        yield Job(
            "statistics", name, paths.statistics_record(name), paths.log("statistics", name),
            (*_first(one.model), paths.data(one.data)), partial(getattr, one, 'spec'), one.model, (one.data,),
            (paths.statistics(name),), kinds=(("statistics", one.model, one.spec["kind"]), ("statistics", one.model)),
            place=paths.statistics(name),
        )  # fmt: skip


def _starts(sweep: Sweep) -> Iterator[Job]:
    """Initial factors; and their quantization errors, where the base is quantized."""
    for name, cell in sweep.starts.items():
        known = (paths.statistics_record(one) for one in sweep.known(cell))
        alike = (cell.model, cell.quant), (cell.model,)
        yield Job(
            "init", name, paths.start_record(name), paths.log("init", name), (*_first(cell.model), *known),
            partial(sweep.init_spec, cell), cell.model, (cell.seen,) if cell.seen else (),
            (paths.start(name),), kinds=_kinds("init", (cell.model, cell.method, cell.quant, cell.rank), *alike),
            place=paths.start(name),
        )  # fmt: skip
        if cell.quant != "none":
            weighing = sweep.weighing(cell)
            needs = (paths.start_record(name), *([paths.statistics_record(weighing.name)] if weighing else []))
            yield Job(
                "quant_error", name, paths.start_error(name), paths.log("quant_error", name), needs,
                partial(sweep.quant_error_spec, cell), cell.model, kinds=_kinds("quant_error", *alike),
            )  # fmt: skip


def _kinds(stage: str, *alike: tuple[Hashable, ...]) -> tuple[tuple[Hashable, ...], ...]:
    return tuple((stage, *one) for one in alike)


def _trained(sweep: Sweep) -> Iterator[Job]:
    for name, cell in sweep.cells.items():
        home, start = paths.cell(name), sweep.start_of(cell)
        needs = (*_first(cell.model), paths.data(cell.data), *([paths.start_record(start)] if start else []))
        yield Job(
            "train", name, home.train, paths.log("train", name), needs, partial(sweep.train_spec, cell),
            cell.model, (cell.data,), (home.steps, home.trained), _kinds_of_training(sweep, cell),
            place=paths.scratch(name),
        )  # fmt: skip


def _kinds_of_training(sweep: Sweep, cell: Cell) -> tuple[tuple[Hashable, ...], ...]:
    """Of which other cells a training takes as long: of the same method, or at least with factors where it has any."""
    shared = (cell.model, cell.data, cell.quant)
    return _kinds(
        "train", (*shared, cell.method, cell.rank), (*shared, cell.method), (*shared, sweep.has_factors(cell))
    )


def _others(sweep: Sweep) -> Iterator[Job]:
    """What was trained elsewhere, and the bases as they are."""
    for name, one in sweep.others.items():
        yield Job(
            one.stage, name, paths.cell(name).train, paths.log(one.stage, name), (paths.model(one.model),),
            partial(sweep.trained_spec, one), one.model, kinds=_kinds(one.stage, (one.model,)),
        )  # fmt: skip


def _scores(sweep: Sweep, batches: Batches) -> Iterator[Job]:
    """What is generated, a batch of cells at a time; and the scores of that."""
    for name, batch in batches.by_name.items():
        homes = [paths.cell(cell) for cell in batch.cells]
        data = tuple(dict.fromkeys(sweep.config["tasks"][task]["dataset"] for task in batch.tasks))
        yield Job(
            "generate", name, paths.batch(name), paths.log("generate", name),
            (*_first(batch.model), *map(paths.data, data), *(home.train for home in homes)),
            partial(batches.spec, name), batch.model, data,
            kinds=_kinds("generate", (batch.model, batch.backend, *batch.tasks)), size=len(homes),
            journals=tuple(home.generated for home in homes),
        )  # fmt: skip
    for name in (*sweep.cells, *sweep.others):
        for task, rows in zip(sweep.config["sweep"]["tasks"], _asked(sweep), strict=True):
            yield _score(sweep, name, task, rows, paths.batch(batches.name_of(name, task)))


def _score(sweep: Sweep, name: str, task: str, data: str, batch: Path) -> Job:
    home, one = paths.cell(name), sweep.scored(name)
    return Job(
        "evaluate", f"{name} {task}", home.score(task), paths.log("evaluate", name, task),
        (home.train, batch, paths.data(data)), partial(sweep.evaluate_spec, one, task), one.model, (data,),
        (home.samples(task),), _kinds("evaluate", (task,)),
    )  # fmt: skip


def _collected(sweep: Sweep) -> Job:
    scored, tasks = (*sweep.cells, *sweep.others), sweep.config["sweep"]["tasks"]
    errors = [paths.start_error(name) for name, cell in sweep.starts.items() if cell.quant != "none"]
    records = [
        record for name in scored for home in (paths.cell(name),) for record in (home.train, *map(home.score, tasks))
    ]
    return Job("collect", "scores", paths.scores(), paths.log("collect"), (*records, *errors))
