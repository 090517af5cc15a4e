"""What a method's file is held to: `Method`, what it is given (`Setting`) and what it gives (`Start`, `Training`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from pissa_repro.quantizers import roundtrip

if TYPE_CHECKING:
    import torch

    from pissa_repro.linalg.spectrum import Spectrum

Matrix: TypeAlias = "torch.Tensor"  # in quotes, so that a method's file needs no torch for its types
NOTHING: Mapping[str, Any] = MappingProxyType({})
PARTS = ("A", "B", "core")
KINDS = ("gradient", "covariance", "magnitude")  # of statistics (model/statistics.py)


@dataclass(frozen=True)
class Setting:
    """What a method may know beside the weight.

    rank: of this module. scaling: s = alpha / r, or alpha / sqrt(r) with rslora. quant: the cell's quantization.
    generator: seeded by the cell's seed and the module's name. spectrum: the weight's singular
    triples, decomposed once for all who ask. options: the method's own. statistics: of this module over
    the data, by kind, float32, of the kinds that the file names in STATISTICS.
    """

    rank: int
    scaling: float
    quant: str
    generator: "torch.Generator"
    spectrum: "Spectrum"
    options: dict[str, Any] = field(default_factory=dict)
    statistics: Mapping[str, Matrix] = field(default_factory=dict)

    def remainder(self, a: "Matrix | None" = None, b: "Matrix | None" = None) -> Matrix:
        """W - quantize(W - s * B @ A), float32 (out, in); without factors W - quantize(W)."""
        weight = self.spectrum.weight
        rest = weight.clone() if a is None or b is None else weight.addmm(b, a, alpha=-self.scaling)
        return roundtrip(rest, self.quant, spare=True).neg_().add_(weight)


def wide(b: Matrix, core: "Matrix | None") -> Matrix:
    """B @ C (out, k), float32, of B (out, k) and C (k, k), its diagonal (k,), or None for the identity.

    Summed in float64, as `model.factors.product` is and for the same reason: a base may be made of it.
    """
    if core is None:
        return b
    return b * core if core.ndim == 1 else (b.double() @ core.double()).float()


@dataclass(frozen=True)
class Start:
    """Factors at the start: A (k, in) and B (out, k), float32; k is the module's rank, unless the file says otherwise.

    core: C of base + s * B @ C @ A: (k, k), or (k,), its diagonal; None for the identity. offset: what is
    taken out of W before it is frozen. None for nothing, "start" for B @ C @ A itself, else a pair
    (A (q, in), B (out, q)) of its own. excess: how far the decomposition behind them may be from the best one
    (spectrum.Triples), for the record. trained: the parts that train, the same in all modules; the others are
    frozen. free: the entries of the core that may change, bool of its shape; None for all.
    """

    A: Matrix
    B: Matrix
    offset: Literal["start"] | tuple[Matrix, Matrix] | None = None
    excess: float | None = None
    core: "Matrix | None" = None
    trained: tuple[str, ...] = PARTS
    free: "Matrix | None" = None

    @cached_property
    def wide(self) -> Matrix:
        """B @ C (out, k), float32: with A the plain LoRA that the start is."""
        return wide(self.B, self.core)

    @property
    def trains(self) -> tuple[str, ...]:
        """The parts that are there and train, in the order of PARTS."""
        return tuple(part for part in PARTS if part in self.trained and getattr(self, part) is not None)

    @property
    def taken(self) -> tuple[Matrix, Matrix] | None:
        """The pair (A, B) whose s * B @ A is taken out of W; None where nothing is."""
        return (self.A, self.wide) if self.offset == "start" else self.offset


@dataclass(frozen=True)
class Parts:
    """The parts of one module in training: A (k, in), B (out, k), and the core, if it has one; scaling: s.

    A part that does not train has no gradient. The others are parameters, whose `.grad` a hook may change. Of a core
    with `free`, only the entries that may change are here, (n,) in the order of its rows.
    """

    A: Matrix
    B: Matrix
    core: "Matrix | None"
    scaling: float

    def trained(self) -> dict[str, Matrix]:
        """The parts that train, by name."""
        named = {name: getattr(self, name) for name in PARTS}
        return {name: part for name, part in named.items() if part is not None and part.requires_grad}


Modules: TypeAlias = Mapping[str, Parts]


class Training:
    """What a method adds to the training of its parts; made once a training. This one adds nothing.

    Every hook sees all modules of the model, by name. In a step, when gradients are summed over micro-batches and
    averaged over processes: `penalty`, `adjust`, clipping, the optimizer, `settle`. Each process calls them on the
    same numbers, so a hook draws no random ones, unless from a generator of its own with a fixed seed. What a hook
    keeps between steps is in `state`, so that a training goes on after a kill as if nothing had happened. A part that
    does not train stays as it is, which is checked.
    """

    def __init__(self, options: Mapping[str, Any]):
        """options: the method's TRAINING_OPTIONS."""
        self.options = options

    def rates(self) -> dict[str, float]:
        """Times how much the learning rate is for a part (A, B, core), above 0; 1 where none is said.

        The logged rate is the recipe's.
        """
        return {}

    def penalty(self, modules: Modules) -> "Matrix | None":
        """A scalar whose gradient is added once at every step. None for none.

        The logged loss and norm of the gradient stay the task's.
        """
        return None

    def adjust(self, modules: Modules, step: int, steps: int) -> None:
        """Change the gradients, before they are clipped. step: the one that is being made, from 1; steps: of all.

        Called without a graph (`torch.no_grad`). A gradient is None where nothing reached the part.
        """

    def settle(self, modules: Modules, step: int, steps: int) -> None:
        """Change the parts in place after the optimizer's step. Their gradients, clipped, are still there; no graph."""

    def optimizer(
        self, modules: Modules, groups: list[dict[str, Any]], adam: Mapping[str, Any]
    ) -> "torch.optim.Optimizer | None":
        """An optimizer of the method's own over the parameter groups; None for the recipe's AdamW.

        adam: lr, betas, eps and weight_decay of the recipe. A group holds params, lr and weight_decay; params may be
        other than parts, such as DoRA's magnitudes. The schedule changes each group's lr. A checkpoint keeps the
        optimizer's state, which is tensors and plain numbers.
        """
        return None

    def state(self) -> dict[str, Matrix]:
        """What the hooks keep between steps, for the checkpoint: tensors by name."""
        return {}

    def restore(self, state: Mapping[str, Matrix]) -> None:
        """Take `state` back from a checkpoint; the tensors are on the model's device."""


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

    OPTIONS: Mapping[str, Any] = NOTHING
    """Options of the start with their defaults, which the config may change to another value of the default's kind: a
    whole number from 1 to 1,000, a number from 0, true or false, a word of CHOICES, or `svd`, the solver."""

    QUANTIZED_OPTIONS: Mapping[str, Any] = NOTHING
    """Further options that apply only on a quantized base."""

    TRAINING_OPTIONS: Mapping[str, Any] = NOTHING
    """Options of the training alone: another value trains again from the same start."""

    CHOICES: Mapping[str, tuple[str, ...]] = NOTHING
    """The words that an option may be, by its name."""

    STATISTICS: Mapping[str, Mapping[str, Any]] = NOTHING
    """What the start has to know of the data, by kind, each with its defaults: {"gradient": {"rows": 64}}.
    "gradient": dL/dW (out, in), of the mean loss over the rows. "covariance": E[x x^T] (in, in) over the tokens x
    that the module sees. "magnitude": E[|x|] (in,)."""

    TRAINING: type[Training] = Training
    """The file's own subclass of `Training`, where it adds to the training."""

    MOVES: str | None = None
    """Why the start is another function than W, in a sentence; then that is recorded and does not stop the run."""

    IGNORES_SCALING: bool = False
    """True: s * B @ C @ A depends on s. Otherwise the update at the start is the same for every s."""

    VERSION: int = 1
    """Raised when the start or the training changes, so that the cells of this method run again, and those of methods
    whose files import this one."""

    TAKES: str | None = None
    """What A and B hold of W at the start where the base is left without it, in words; None where the base stays W.
    Then dropout leaves out parts of W itself, and a warning says so. Singular triples are "the r largest (middle,
    smallest) singular triples of W", which a test compares with what is taken."""

    REFERENCE: bool = False
    """True: with default settings it is what tables compare every other method with, on the same base and rank."""

    LOOK: int | None = None
    """The number of its colour and marker in figures (report/figures/looks.py), another one for each file: 0 to
    27 are kept for the shipped ones. None: a free one from 28 on that follows from the file's name."""

    def start(self, weight: "torch.Tensor", setting: Setting) -> Start:
        """The parts of a float32 weight (out, in), which stays as it is: float32, finite, on the weight's device.

        The same weight and setting give the same bits: random numbers come from
        `setting.generator`. Every rank from 1 to `largest_rank` is possible; the caller has checked it. On a plain
        base, base + s * B @ C @ A is W to float32 rounding, for every s.
        """
        raise TypeError("a method without factors has no start")

    def refuse(self, quant: str) -> str | None:
        """Why the method makes no sense on this quantization, in a sentence for the user; None where it does."""
        return None

    def refuse_options(self, options: Mapping[str, Any]) -> str | None:
        """Why these values of all options cannot be, in a sentence for the user; None where they can."""
        return None

    def largest_rank(self, out: int, into: int) -> int:
        """The largest rank of a weight (out, in): less than its smaller side where a start has more columns."""
        return min(out, into)

    def redistributes(self, options: Mapping[str, Any]) -> bool:
        """Whether these options of the start ask for `ranks`; of a file with a `summary` alone."""
        return True

    def summary(self, weight: "torch.Tensor", setting: Setting) -> Matrix:
        """What `ranks` has to know of a module, such as singular values. A file without has one rank for all."""
        raise TypeError("a method without a summary has one rank for all modules")

    def ranks(self, rank: int, summaries: Mapping[str, Matrix], options: Mapping[str, Any]) -> dict[str, int]:
        """The rank of every module from their summaries, whose mean is about `rank`. Asked before any start is made."""
        raise TypeError("a method without a summary has one rank for all modules")

    def entries(self, out: int, into: int, rank: int, options: Mapping[str, Any]) -> int:
        """How many numbers of a weight (out, in) can change in training."""
        return rank * (out + into)
