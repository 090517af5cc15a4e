"""What the specs of studies hold. Types only, as in specs.py; plan/studies.py makes them."""

from typing import TypedDict

from pissa_repro.runtime.specs import InitSpec, QuantVersions, TrainSpec


class GridPoint(TypedDict):
    """A point of a grid of errors."""

    method: str
    quant: str
    rank: int
    alternations: int


class StudySpec(QuantVersions):
    """What the specs of all studies hold. target_modules: None for every projection of the layers."""

    stage: str
    version: int
    solver_version: int
    method_versions: dict[str, int]
    target_modules: list[str] | None


class ErrorsSpec(StudySpec):
    """Spec of measuring a grid of errors on a model."""

    points: list[GridPoint]


class SpectraSpec(StudySpec):
    """Spec of the singular values and the distribution of a model's weights. module: None for the first."""

    module: str | None
    rank: int
    quant: str


class SolversSpec(StudySpec):
    """Spec of timing the solvers over ranks."""

    svd: list[str]
    ranks: list[int]


class GptqSpec(StudySpec):
    """Spec of GPTQ of W and of PiSSA's residual. rows: how many are taken of either dataset."""

    rank: int
    rows: int


class UpdatesSpec(TypedDict):
    """Spec of measuring how far a training has moved each module. init: None where every weight trained."""

    stage: str
    version: int
    train: TrainSpec
    init: InitSpec | None


class GradientsSpec(TypedDict):
    """Spec of gradients at the start and of the first updates. runs: the training by method, of the first seed.

    seeds: of the start; the data's order is the same for all. rows: of the batch of the gradients. updates: the first
    ones, which are compared with update `target`.
    """

    stage: str
    version: int
    seeds: int
    rows: int
    updates: int
    target: int
    runs: dict[str, TrainSpec]


class ToyVariant(TypedDict):
    """How the toy is set up. pixels: "raw" or "standardised". components: what PCA leaves of them; None: no PCA."""

    pixels: str
    components: int | None
    rank: int


class ToySpec(TypedDict):
    """Spec of the toy of Figure 2a. data: "mnist" or "digits". odd, even: rows at most; rates of Adam, full batches."""

    stage: str
    version: int
    solver_version: int
    method_versions: dict[str, int]
    data: str
    seeds: int
    variants: dict[str, ToyVariant]
    hidden: int
    odd: int
    even: int
    pretrain_epochs: int
    epochs: int
    learning_rate: float


class TrainedErrorSpec(QuantVersions):
    """Spec of measuring trained factors on the base that they were trained on and on others."""

    stage: str
    version: int
    train: TrainSpec
    init: InitSpec | None
    evaluated_as: list[str]
