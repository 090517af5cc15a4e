"""Scores on the benchmarks of language generation beside the paper's, a row for each method and model."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import _parts
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = "Table 2", "table", "paper"
NEEDS = "cells of full fine-tuning, LoRA (either A) or PiSSA without quantization"


def needs(sweep: Sweep) -> list[Path]:
    return _parts.scored(_part(sweep))


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.paper.printed import language_generation
    from pissa_repro.report.tables.paper import beside

    heading = "Language generation (paper, Table 2)"
    return beside(_part(sweep), results, heading, language_generation(), "v4 Table 2")


def _part(sweep: Sweep) -> Sweep:
    return _parts.part(sweep, (_parts.FULL, _parts.GAUSSIAN, _parts.LORA, _parts.PISSA))
