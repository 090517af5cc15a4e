"""Which statistics of data starts and their errors ask for, and where they are. Imports no torch, as sweep.py."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias, cast

from pissa_repro import methods
from pissa_repro.plan import datasets
from pissa_repro.plan.lora import NARROWING
from pissa_repro.plan.sections import Config, ErrorData, NamedMethod
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.record import canonical
from pissa_repro.runtime.specs import StatisticsSpec, Targets
from pissa_repro.sources.split import span

VERSION = 1  # of the stage: raised when other numbers come out of it
ROWS, SEED = "rows", "seed"
Draws: TypeAlias = Mapping[str, Mapping[str, int]]  # rows and seed by the kind of statistic


class Statistic(NamedTuple):
    """One job of the stage: a statistic of the modules of a model over rows of a dataset."""

    model: str
    data: str
    spec: StatisticsSpec

    @property
    def name(self) -> str:
        """Its folder below results/statistics. Whatever the spec says, the name is of it alone: nothing else has it."""
        spec, digest = self.spec, hashlib.sha256(canonical(self.spec).encode()).hexdigest()[:8]
        return f"{self.model}/{self.data}/{spec['kind']}-n{spec['rows']}-s{spec['seed']}-{digest}"


def data(definition: NamedMethod, trained_on: str) -> str:
    """The dataset that a method's start has seen: that of the training if the config says no other; "" for none."""
    return (
        definition.get("statistics", {}).get("data", trained_on) if methods.load(definition["init"]).STATISTICS else ""
    )


def drawn(definition: NamedMethod) -> dict[str, dict[str, int]]:
    """How many rows are drawn with which seed, by the kind of statistic; what the file says, changed by the config."""
    own = {key: value for key, value in definition.get("statistics", {}).items() if key in (ROWS, SEED)}
    asked = methods.load(definition["init"]).STATISTICS
    return {kind: {SEED: 0, **defaults, **cast("dict[str, int]", own)} for kind, defaults in asked.items()}


def check(config: Config, definition: NamedMethod, place: str) -> None:
    """Raise UserError for `statistics` of a method that knows of no data, or of rows that cannot train."""
    given = definition.get("statistics")
    if given is None:
        return
    if not methods.load(definition["init"]).STATISTICS:
        asking = [name for name in methods.names() if methods.load(name).STATISTICS]
        raise UserError(
            f"{place}.statistics: {definition['init']} starts without data; leave it out. Methods that see data: "
            f"{', '.join(asking) or 'none'}."
        )
    if (name := given.get("data")) is not None:
        if name not in config["datasets"]:
            raise unknown("dataset", name, config["datasets"], f"{place}.statistics.data")
        if not of_texts(config, name, f"{place}.statistics"):
            datasets.need_fields(config["datasets"], name, ("prompt", "response"), f"{place}.statistics")


def check_errors(config: Config) -> None:
    """Raise UserError for `studies.data` that names no dataset, or one of rows that cannot train, or too few."""
    asked, place = config["studies"].get("data"), "config.studies.data"
    if asked is None:
        return
    if asked["dataset"] not in config["datasets"]:
        raise unknown("dataset", asked["dataset"], config["datasets"], f"{place}.dataset")
    if not of_texts(config, asked["dataset"], f"{place}.dataset"):
        datasets.need_fields(config["datasets"], asked["dataset"], ("prompt", "response"), "studies.data")
    check_rows(config, of_errors(asked), asked["dataset"], f"{place}.rows", "the study of errors")


def of_errors(asked: ErrorData) -> dict[str, dict[str, int]]:
    """How many rows are drawn with which seed for what errors are weighed by, as `drawn`."""
    return {"covariance": {SEED: asked.get("seed", 0), ROWS: asked["rows"]}}


def of_texts(config: Config, name: str, place: str) -> bool:
    """Whether the rows that statistics are of are plain texts. Raises UserError for rows with the label of a class."""
    taught = datasets.trained_on(config["datasets"], name)
    if taught == "label":
        raise UserError(
            f"{place}: the rows of dataset '{name}' teach a class, and statistics are measured of models that write "
            "words only. Take a method that starts without data, or rows that teach words."
        )
    return taught == "text"


def check_rows(config: Config, draws: Draws, name: str, place: str, who: str) -> None:
    """Raise UserError where more rows are drawn than a dataset can have, as far as the config says how many.

    draws: as `drawn`. who: draws them.
    """
    source = datasets.source(config["datasets"], name)
    wanted = [limit["rows"] for limit in (source, *source.get("parts", [])) if "rows" in limit]
    most = min((stop - first for first, stop in map(span, wanted)), default=None)
    for kind, how in draws.items():
        if most is not None and how[ROWS] > most:
            raise UserError(
                f"{place}: {who} draws {how[ROWS]} rows for its {kind}, and dataset '{name}' has at most {most}. Give "
                "fewer rows here, or name another dataset."
            )


def specs(draws: Draws, targets: Targets, settings: Mapping[str, Any]) -> dict[str, StatisticsSpec]:
    """Their specs by kind. draws: as `drawn`. settings: max_length, and prompt and loss if not the usual."""
    named: dict[str, Any] = {"target_modules": targets["target_modules"]}
    if narrowing := {key: value for key, value in targets.get("lora", {}).items() if key in NARROWING}:
        named["lora"] = narrowing
    return {
        kind: cast(
            "StatisticsSpec",
            {"stage": "statistics", "version": VERSION, "kind": kind, **how, **settings, **named},
        )
        for kind, how in draws.items()
    }
