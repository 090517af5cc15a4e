"""Numbers of others that stand beside a row of ours whose setting is theirs, as far as theirs is known.

They are never compared with ours, and decide no verdict. A table of reference/paper_tables.yaml has some where it says
`beside`: the setting to match, by the config's words; what it leaves out was not stated, and matches all.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from pissa_repro.paper import published
from pissa_repro.paper.published import METHODS, TIERS
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.labels import paper_method
from pissa_repro.plan.sweep import Sweep

SAME_RATE = 0.05  # relative: how far a rate that was read from a picture may be off
DORA = {"dora": "lora+dora"}


@dataclass(frozen=True)
class ThirdParty:
    """One score of others, in percent. setting: model, and as far as stated rank, data, learning_rate and train."""

    method: str
    quant: str
    benchmark: str
    mean: float
    std: float | None
    source: str
    tier: str
    doubt: str | None
    setting: Mapping[str, Any]

    def __str__(self) -> str:
        spread = "" if self.std is None else f" ± {self.std:g}"
        return f"{self.mean:g}{spread} ({'; '.join(filter(None, (f'{self.source}, {self.tier}', self.doubt)))})"


@cache
def entries() -> tuple[ThirdParty, ...]:
    """All scores of others that may stand beside ours."""
    raw = published.without_memory(yaml.safe_load(published.PATH.read_text(encoding="utf-8")))
    return tuple(one for table in raw["followup_tables"].values() if "beside" in table for one in _scores(table))


def _scores(table: dict[str, Any]) -> Iterator[ThirdParty]:
    setting = dict(table["beside"])
    source, doubt, benchmarks = setting.pop("source"), setting.pop("doubt", None), setting.pop("benchmarks")
    rate = setting.pop("rate", None)
    for row in table["rows"]:
        method, quantized = METHODS.get(row["method"], (DORA.get(row["method"], row["method"]), False))
        own = {"learning_rate": row[rate]} if rate else {}
        for benchmark, key in benchmarks.items():
            if key in row:
                yield ThirdParty(
                    method=method,
                    quant="nf4" if quantized else "none",
                    benchmark=benchmark,
                    mean=row[key],
                    std=row.get(f"{key}_std"),
                    source=source,
                    tier=TIERS[table["confidence"]],
                    doubt=doubt,
                    setting=setting | own,
                )


def beside(sweep: Sweep, cell: Cell, task: str) -> list[ThirdParty]:
    """The scores of others whose setting a cell and a task of ours have."""
    config = sweep.config
    place = (
        paper_method(sweep.definition(cell.method)),
        cell.quant,
        config["tasks"][task].get("paper"),
        config["models"][cell.model].get("paper"),
    )
    return [
        one
        for one in entries()
        if (one.method, one.quant, one.benchmark, one.setting["model"]) == place and _trained(sweep, cell, one.setting)
    ]


def _trained(sweep: Sweep, cell: Cell, setting: Mapping[str, Any]) -> bool:
    """Whether a cell is trained as a setting says, as far as it does."""
    settings, rate = dict(cell.train), setting.get("learning_rate", cell.learning_rate)
    return (
        (not sweep.has_factors(cell) or setting.get("rank", cell.rank) == cell.rank)
        and setting.get("data") in (None, sweep.config["datasets"][cell.data].get("paper"))
        and math.isclose(rate, cell.learning_rate, rel_tol=SAME_RATE)
        and all(settings[key] == value for key, value in setting.get("train", {}).items())
    )
