"""Data by which errors of starts are measured: covariances that weigh them, and rows that models are compared on."""

import logging
from pathlib import Path
from typing import Any

from pissa_repro.model import factors
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import sha256
from pissa_repro.runtime.record_types import ModelRecord
from pissa_repro.runtime.specs import StatisticsSpec
from pissa_repro.starts import divergence
from pissa_repro.starts.statistics import Known

log = logging.getLogger(__name__)


def known(model: ModelRecord, folder: Path | None, wanted: StatisticsSpec | None = None) -> Known | None:
    """The covariances in a folder of statistics; None without one.

    wanted: the spec that they must have. Raises UserError for another, and for statistics of another kind or model.
    """
    found = Known([folder] if folder else [], model["fingerprint"])
    if wanted:
        found.check({"covariance": wanted})
    if folder and found.specs.keys() != {"covariance"}:
        raise UserError(f"{folder}: statistics of kind '{', '.join(found.specs)}'. Errors are weighed by a covariance.")
    return found if folder else None


def compared(model: ModelRecord, start: Path, quant: str, by: Known, rows: Path) -> dict[str, Any]:
    """What the record says of a start over the rows behind its covariances. Raises UserError for other rows."""
    if (content := sha256(rows)) != by.data_sha256:
        raise UserError(
            f"{rows}: not the rows of {by.folders['covariance']}. Measure that folder again, or give its own."
        )
    initial, spec = factors.load(start, model), by.specs["covariance"]
    kl, tokens = divergence.measure(model["path"], initial, quant, spec, rows)
    log.info("divergence from the base model: %.6g nats per token, over %d tokens", kl, tokens)
    return {"data_sha256": content, "divergence": kl, "divergence_tokens": tokens}
