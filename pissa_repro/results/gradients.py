"""The records of gradients at the start, and what the paper prints of the same (Table 11, Appendix M)."""

from typing import Any, NamedTuple

import numpy

from pissa_repro.plan import gradients
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.study import Study
from pissa_repro.runtime.errors import UserError

SAME = 1 - 1e-6  # the smallest cosine between vectors of one direction: float32 rounding, with room


class Found(NamedTuple):
    """One method of a study. facts: as studies/gradients.py makes them; updates: the first ones that are compared."""

    method: str
    facts: dict[str, Any]
    updates: int

    def directions(self, factor: str) -> list[list[float]]:
        """The direction of a factor's gradient in two dimensions, by seed."""
        return self.facts["gradients"][factor]["directions"]

    def cosine(self, factor: str) -> float | None:
        """The smallest cosine between the gradients of two seeds; None for one seed, and where a gradient is zero."""
        matrix = self.facts["gradients"][factor]["cosines"]
        pairs = [row[j] for i, row in enumerate(matrix) for j in range(i)]
        return None if not pairs or None in pairs else min(pairs)

    def finding(self, factor: str) -> str:
        """What the gradients of all seeds have in common, in words."""
        if not any(self.facts["gradients"][factor]["norms"]):
            return "exactly zero in every seed"
        cosine = self.cosine(factor)
        if cosine is None:
            return "one seed" if len(self.facts["starts"]) == 1 else "zero in some seeds"
        return "the same direction in every seed" if cosine >= SAME else "another direction in every seed"

    def losses(self) -> numpy.ndarray:
        """The loss of every step before its update (seeds, steps)."""
        return self._by_seed("losses")

    def progress(self, factor: str) -> numpy.ndarray:
        """How far a factor has come of its way, in percent (seeds, 1 + updates), the start first."""
        return self._by_seed(factor)

    def _by_seed(self, key: str) -> numpy.ndarray:
        values = [self.facts["runs"][run][key] for run in self.facts["starts"]]
        table = numpy.array(values, dtype=float)
        if not numpy.isfinite(table).all():
            raise UserError(f"{gradients.RECORD}, {self.method}: {key} of a run is no finite number. Delete it.")
        return table


def measured(sweep: Sweep, study: Study) -> list[Found]:
    """The methods of a study's record. Raises UserError where it is missing, or of another config, weights or rows."""
    spec = gradients.spec(sweep, study.model)
    record = study.record("gradients", spec, data_sha256=gradients.data(sweep))
    return [Found(run["method"], record["methods"][name], spec["updates"]) for name, run in spec["runs"].items()]
