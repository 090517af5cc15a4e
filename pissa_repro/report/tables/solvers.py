"""The solvers: Table 6 of the paper, the published numbers beside ours."""

import math
from pathlib import Path
from statistics import fmean

from pissa_repro.paper import published
from pissa_repro.paper.words import NOT_COMPARABLE
from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.table import Row, Table, headed
from pissa_repro.results.records import Fetched, checked
from pissa_repro.results.study import Study, studied
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError

UNLIKE = (
    "times are of other hardware, the paper's averaging of the error is not stated; final_loss is the mean over the "
    "last tenth of the steps, each the mean over the batch's tokens, and which average the paper's loss is, it does "
    "not say"
)


def solvers(sweep: Sweep, results: Path, heading: str) -> Table:
    """Seconds, error and final loss of every solver and rank. The paper's are of other hardware: trends only."""
    models = studied(sweep, results)
    return headed(heading, [study.display for study in models], [row for study in models for row in _rows(study)])


def _rows(study: Study) -> list[Row]:
    spec = studies.solvers_spec(study.sweep, study.model)
    measured, theirs = study.rows("solvers", spec, ("svd", "rank", "seconds", "error", "excess")), _fast_svd()
    losses = _losses(study)
    rows = []
    for row in measured.to_dict("records"):
        place = row["svd"], row["rank"]
        found = losses.get(place, [])
        lost = sum(map(math.isnan, found))
        ours: Row = {str(key): value for key, value in row.items()}
        ours["final_loss"] = None if lost or not found else fmean(found)
        ours |= {"diverged": f"{lost} of {len(found)} seeds"} if lost else {}
        words = {"verdict": NOT_COMPARABLE, "note": UNLIKE if place in theirs else "not in the paper's table"}
        rows.append({"model": study.display, **ours, **theirs.get(place, {}), **words})
    return rows


def _fast_svd() -> dict[tuple[str, int], dict[str, float]]:
    """Table 6 by our solver's name and the rank."""
    printed: dict[tuple[str, int], dict[str, float]] = {}
    for metric, rows in published.printed("fast_svd_v4")["rows"].items():
        for row in rows:
            svd = "exact" if row["niter"] == "full_svd" else f"niter_{row['niter']}"
            for key, value in row.items():
                if key != "niter":
                    printed.setdefault((svd, int(key[1:])), {})[f"published_{metric}"] = value
    return printed


def _losses(study: Study) -> dict[tuple[str, int], list[float]]:
    """Final losses by seed of swept PiSSA cells on a plain base, by solver and rank; NaN of one that diverged."""
    losses: dict[tuple[str, int], list[float]] = {}
    settings: dict[tuple[str, int], set] = {}
    for cell in studies.solved(study.sweep, study.model):
        path = paths.cell(cell.name, study.results).train
        record = checked(path, study.sweep.train_spec(cell))
        Fetched(study.results).compare(path, record, cell.model, cell.data)
        place = (record["spec"]["init"]["options"]["svd"], cell.rank)
        settings.setdefault(place, set()).add((cell.method, cell.data, cell.learning_rate))
        if len(settings[place]) > 1:
            raise UserError(
                f"table6: {place} has several settings: {settings[place]}. Sweep one rate, data and method."
            )
        losses.setdefault(place, []).append(math.nan if "diverged" in record else record["final_loss"])
    return losses
