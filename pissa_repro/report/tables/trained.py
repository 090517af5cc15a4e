"""The error of trained weights, by the base that they are evaluated on."""

from collections.abc import Iterator
from pathlib import Path

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.table import Row, Table, headed
from pissa_repro.results.records import Fetched, checked
from pissa_repro.results.study import Study, studied
from pissa_repro.runtime import paths


def trained_as(sweep: Sweep, results: Path, heading: str) -> Table:
    """A row a trained cell; the columns are the bases that its factors are evaluated on."""
    shown = [study for study in studied(sweep, results) if studies.quantized(sweep, study.model)]
    return headed(heading, [study.display for study in shown], [row for study in shown for row in _rows(study)])


def _rows(study: Study) -> Iterator[Row]:
    for cell in studies.quantized(study.sweep, study.model):
        home, fetched = paths.cell(cell.name, study.results), Fetched(study.results)
        record = checked(home.trained_error, studies.trained_error_spec(study.sweep, cell))
        fetched.compare(home.trained_error, record, cell.model)
        fetched.compare_trained(home.trained_error, record, home.train)
        measured = record.get("evaluated_as", {}).items()
        errors = {f"as {quant}": part["total"]["nuclear"] for quant, part in measured}
        lost = {"diverged": f"at step {record['diverged']}"} if "diverged" in record else {}
        same = {"method": study.sweep.display(cell), "config name": cell.method, "rank": cell.rank, "data": cell.data,
                "learning rate": cell.learning_rate, "seed": cell.seed, "trained as": cell.quant}  # fmt: skip
        yield {"model": study.display, **same, **errors, **lost}
