"""The methods. One method is one file of this folder; it is found by its name.

A method is one function from a weight matrix to small factors (docs/guides/add_a_baseline.md):

    base  = quantize(W - s * offset_B @ offset_A)      frozen
    model = base + s * B @ A                           A, B trained

A method's file declares
    DISPLAY, QUANTIZED_DISPLAY   its names in tables, on a plain and on a quantized base
    RANDOM                       whether the start depends on the seed
    start(weight, setting)       -> Start
and, where they are needed,
    FACTORS = False              every weight trains, there are no factors (then no `start`)
    OPTIONS, QUANTIZED_OPTIONS   options with their defaults; the second only on a quantized base
    VERSION = 2, 3, ...          raised when the start changes, so that its cells run again
    refuse(quant)                -> the reason why this pair makes no sense, or None

The workflow imports these files for every dry run, so they import torch only inside `start`.
"""

import importlib
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pissa_repro.runtime.errors import UserError, unknown

if TYPE_CHECKING:
    import torch

    from pissa_repro.linalg.spectrum import Spectrum

Matrix: TypeAlias = "torch.Tensor"  # in quotes, so that a method's file needs no torch for its types
SVD = r"fast|exact|niter_\d+"  # the solvers of linalg/spectrum.py, for the option `svd`


@dataclass(frozen=True)
class Setting:
    """What a method may know beside the weight.

    rank: r. scaling: s = alpha / r, or alpha / sqrt(r) with rslora. quant: the cell's quantization.
    generator: seeded by the cell's seed and the module's name. spectrum: the weight's singular
    triples, decomposed once for all who ask. options: the method's own.
    """

    rank: int
    scaling: float
    quant: str
    generator: "torch.Generator"
    spectrum: "Spectrum"
    options: dict[str, Any] = field(default_factory=dict)

    def remainder(self, a: "Matrix | None" = None, b: "Matrix | None" = None) -> Matrix:
        """W - quantize(W - s * B @ A), float32 (out, in); without factors W - quantize(W)."""
        from pissa_repro.linalg.quantize import roundtrip

        weight = self.spectrum.weight
        rest = weight.clone() if a is None or b is None else weight.addmm(b, a, alpha=-self.scaling)
        return roundtrip(rest, self.quant, spare=True).neg_().add_(weight)


@dataclass(frozen=True)
class Start:
    """Factors at the start: A (r, in) and B (out, r), float32.

    offset: what is taken out of W before it is frozen. None for nothing, "start" for A and B
    themselves, else a pair (A, B) of its own. excess: how far the decomposition behind them may be
    from the best one (spectrum.Triples), for the record.
    """

    A: Matrix
    B: Matrix
    offset: Literal["start"] | tuple[Matrix, Matrix] | None = None
    excess: float | None = None

    @property
    def taken(self) -> tuple[Matrix, Matrix] | None:
        """The pair (A, B) that is taken out of W; None for nothing."""
        return (self.A, self.B) if self.offset == "start" else self.offset


def names() -> list[str]:
    """All methods: the files of this folder, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


@cache
def load(name: str, place: str = "methods") -> ModuleType:
    """The method's module. Raises UserError for a name without a file."""
    if name not in names():
        raise unknown("method", name, names(), place)
    return importlib.import_module(f"{__name__}.{name}")


def has_factors(name: str) -> bool:
    """Whether the method trains factors (False: it trains every weight)."""
    return getattr(load(name), "FACTORS", True)


def refusal(name: str, quant: str) -> str | None:
    """Why the method makes no sense on this quantization, in the words of its own file; or None."""
    refuse = getattr(load(name), "refuse", None)
    return refuse(quant) if refuse else None


def options(name: str, quant: str, given: dict[str, Any], place: str) -> dict[str, Any]:
    """The method's options that apply on this base: its defaults, changed by the config.

    Raises UserError for an option that the method does not have.
    """
    method = load(name)
    plain, quantized = getattr(method, "OPTIONS", {}), getattr(method, "QUANTIZED_OPTIONS", {})
    for key, value in given.items():
        if key not in plain | quantized:
            raise unknown("option", key, plain | quantized, f"{place} ({name})")
        if key == "svd":
            check_svd(value, f"{place} ({name})")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{place} ({name}): option '{key}' is {value!r}; it must be a whole number from 1.")
    applicable = plain if quant == "none" else plain | quantized
    return {key: given.get(key, default) for key, default in applicable.items()}


def check_svd(value: Any, place: str) -> None:
    """Raise UserError for what is not the name of a solver of linalg/spectrum.py."""
    if not re.fullmatch(SVD, str(value)):
        raise unknown("svd", value, ("fast", "exact", "niter_<n>"), place)


def display(name: str, quant: str) -> str:
    """The method's name in tables."""
    method = load(name)
    return method.DISPLAY if quant == "none" else method.QUANTIZED_DISPLAY
