"""What the specs of studies hold. Types only, as in specs.py; plan/studies.py makes them."""

from typing import TypedDict

from pissa_repro.runtime.specs import InitSpec, TrainSpec


class GridPoint(TypedDict):
    """A point of a grid of errors."""

    method: str
    quant: str
    rank: int
    alternations: int


class StudySpec(TypedDict):
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


class TrainedErrorSpec(TypedDict):
    """Spec of measuring trained factors on the base that they were trained on and on others."""

    stage: str
    version: int
    train: TrainSpec
    init: InitSpec | None
    evaluated_as: list[str]
