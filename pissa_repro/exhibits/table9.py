"""Other quantizers: the nuclear norm of the error, and the scores of the sweep's cells."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = "Table 9", "table", "studies"
NEEDS = "studies.models"


def needs(sweep: Sweep) -> list[Path]:
    gptq = studies.records(sweep, "gptq") if sweep.config["studies"]["gptq"] else []
    scores = [paths.scores()] if studies.compared(sweep) else []
    return studies.tables(sweep, "errors_quants") + gptq + scores


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.quantizers import quantizers

    return quantizers(sweep, results, "Other quantizers: nuclear norm of the error (paper, Table 9)")
