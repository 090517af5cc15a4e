"""The methods. One is one file of this folder, held to `Method` (docs/guides/add_a_baseline.md).

A method is one function from a weight matrix to small factors:

    base  = quantize(W - s * offset_B @ offset_A)      frozen
    model = base + s * B @ A                           A, B trained

Nothing here knows of a model or of training. The workflow imports these files for every dry run, so they import torch
only inside `start`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from pissa_repro.quantizers import roundtrip
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.plugins import Room

if TYPE_CHECKING:
    import torch

    from pissa_repro.linalg.spectrum import Spectrum

Matrix: TypeAlias = "torch.Tensor"  # in quotes, so that a method's file needs no torch for its types
SVD = "fast|exact|niter_(0|[1-9][0-9]{0,2})"  # the solvers of linalg/spectrum.py, for the option `svd`
MOST = 1_000  # of an option that is a number


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
        """The pair (A, B) whose s * B @ A is taken out of W; None where nothing is."""
        return (self.A, self.B) if self.offset == "start" else self.offset


class Method(Protocol):
    """What a method's file declares."""

    DISPLAY: str
    """Its name in tables, on a plain base."""

    QUANTIZED_DISPLAY: str
    """Its name in tables, on a quantized base."""

    RANDOM: bool
    """Whether the start depends on the seed; if not, all seeds share one start."""

    FACTORS: bool = True
    """False: every weight trains; there are no factors, and then no `start`."""

    OPTIONS: Mapping[str, Any] = MappingProxyType({})
    """Options with their defaults, which the config may change: whole numbers from 1 to 1,000, or `svd`, the solver."""

    QUANTIZED_OPTIONS: Mapping[str, Any] = MappingProxyType({})
    """Further options that apply only on a quantized base."""

    VERSION: int = 1
    """Raised when the start changes, so that the cells of this method, and only they, run again."""

    TAKES: str | None = None
    """What A and B hold of W at the start where the base is left without it, in words; None where the base stays W.
    Then dropout leaves out parts of W itself, and a warning says so."""

    REFERENCE: bool = False
    """True: with default settings it is what tables compare every other method with, on the same base and rank."""

    LOOK: int | None = None
    """The number of its colour and marker in figures (report/figures/looks.py), another one for each file, from 0.
    None: one from 7 on that follows from the file's name."""

    def start(self, weight: "torch.Tensor", setting: Setting) -> Start:
        """The factors of a float32 weight (out, in), which stays as it is: A (r, in) and B (out, r), float32, finite.

        On the weight's device. The same weight and setting give the same bits: random numbers come from
        `setting.generator`. Every rank from 1 to the smaller side is possible; the caller has checked it. On a plain
        base, base + s * B @ A is W to float32 rounding, for every s.
        """
        raise TypeError("a method without factors has no start")

    def refuse(self, quant: str) -> str | None:
        """Why the method makes no sense on this quantization, in a sentence for the user; None where it does."""
        return None


def _complaint(module: ModuleType) -> str | None:
    if getattr(module, "FACTORS", True) != hasattr(module, "start"):
        return "a method has a function start(weight, setting), or says FACTORS = False."
    return None


PLUGINS = Room("pissa_repro.methods", "method", Method, _complaint)
names, load = PLUGINS.names, PLUGINS.load


def has_factors(name: str) -> bool:
    """Whether the method trains factors (False: it trains every weight)."""
    return load(name).FACTORS


def references() -> tuple[str, ...]:
    """The methods that others are compared with."""
    return tuple(name for name in names() if load(name).REFERENCE)


def refusal(name: str, quant: str) -> str | None:
    """Why the method makes no sense on this quantization, in the words of its own file; or None."""
    return load(name).refuse(quant)


def options(name: str, quant: str, given: dict[str, Any], place: str) -> dict[str, Any]:
    """The method's options that apply on this base: its defaults, changed by the config.

    Raises UserError for an option that the method does not have, and for a value that it cannot have.
    """
    plain = dict(load(name).OPTIONS)
    everywhere = plain | dict(load(name).QUANTIZED_OPTIONS)
    for key, value in given.items():
        if key not in everywhere:
            raise unknown("option", key, everywhere, f"{place} ({name})")
        if key == "svd":
            check_svd(value, f"{place} ({name})")
        elif isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
            wanted = f"it must be a whole number from 1 to {MOST:,}"
            raise UserError(f"{place} ({name}): option '{key}' is {value!r}; {wanted}.")
    return {key: given.get(key, default) for key, default in (plain if quant == "none" else everywhere).items()}


def check_svd(value: Any, place: str) -> None:
    """Raise UserError for what is not the name of a solver of linalg/spectrum.py."""
    if not re.fullmatch(SVD, str(value)):
        raise unknown("svd", value, ("fast", "exact", "niter_<0 to 999>"), place)


def display(name: str, quant: str) -> str:
    """The method's name in tables."""
    method = load(name)
    return method.DISPLAY if quant == "none" else method.QUANTIZED_DISPLAY
