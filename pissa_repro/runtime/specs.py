"""What specs hold: the types of the plain mappings that say what a stage is asked to do.

plan/sweep.py makes them; those of admissions and studies are in admit_specs.py and study_specs.py. Only fetching is
asked for a place. What comes after it depends on weights and rows by their content, whose hashes its record holds.
Types only: keys are what the JSON has, and no code depends on this at run time. Records are in record_types.py.
"""

from typing import Any, NotRequired, TypedDict


class ModelSource(TypedDict, total=False):
    """Where a model comes from: a folder (or "embedded"), or a hub id with its revision."""

    path: str
    hub: str
    revision: str
    gated: str


class DataPart(TypedDict):
    """A share of a dataset's rows by a hash of the prompt; rest: the rows outside it. rows: the first, or a range."""

    share: float
    seed: int
    rest: NotRequired[bool]
    rows: NotRequired[int | str]


class DataSource(TypedDict, total=False):
    """Where rows come from, which are taken, and which fields are prompt and response.

    rows: the first N, or "first-last". parts: what is taken of these, one after the other.
    """

    path: str
    hub: str
    revision: str
    file: str
    rows: int | str
    fields: dict[str, str]
    response_format: str
    parts: list[DataPart]


class ModelSpec(TypedDict):
    """Spec of fetching a model."""

    stage: str
    version: int
    model: ModelSource


class DataSpec(TypedDict):
    """Spec of fetching a dataset."""

    stage: str
    version: int
    dataset: DataSource


class StartFields(TypedDict, total=False):
    """Fields of LoraConfig that decide a start. Patterns are pairs of a regular expression and a value, in order."""

    exclude_modules: list[str] | str
    layers_to_transform: list[int] | int
    layers_pattern: list[str] | str
    rank_pattern: list[tuple[str, int]]
    alpha_pattern: list[tuple[str, float]]


class TrainedWhole(TypedDict, total=False):
    """Fields of LoraConfig by which parameters of the base train beside the factors."""

    bias: str
    modules_to_save: list[str]


class StartSpec(TypedDict):
    """The part of an init spec that decides the factors of one weight."""

    method: str
    options: dict[str, Any]
    quant: str
    rank: int
    alpha: float
    rslora: bool
    seed: int


class Targets(TypedDict):
    """Which modules get factors. target_modules: names, a regular expression, or "all-linear"."""

    target_modules: list[str] | str
    lora: NotRequired[StartFields]


class ModelStartSpec(StartSpec, Targets):
    """The same of a whole model; rank and alpha: of the modules that no pattern gives another."""


class StatisticsSpec(Targets):
    """Spec of a statistic of the target modules over rows of a dataset. kind: as methods.KINDS.

    rows: how many are drawn, with the seed. max_length, prompt, loss: as TrainSettings.
    """

    stage: str
    version: int
    kind: str
    rows: int
    seed: int
    max_length: int
    prompt: NotRequired[str]
    loss: NotRequired[str]


class QuantVersions(TypedDict, total=False):
    """The versions of the quantizers behind a spec by quant: those that are not 1."""

    quant_versions: dict[str, int]


class InitSpec(ModelStartSpec, QuantVersions):
    """Spec of making initial factors. By hand, the versions are not there. statistics: by kind, where any is known."""

    stage: str
    statistics: NotRequired[dict[str, StatisticsSpec]]
    version: NotRequired[int]
    solver_version: NotRequired[int]
    method_version: NotRequired[int]


class QuantErrorSpec(TypedDict):
    """Spec of measuring the quantization error of initial factors.

    weighed_by: the covariance that it is weighed by, too, over whose rows distributions are compared.
    """

    stage: str
    version: int
    init: InitSpec
    weighed_by: NotRequired[StatisticsSpec]


class TrainSettings(TypedDict):
    """The training settings that do not belong to the start (`train:` in the config).

    prompt: a style of sources/prompt.py; not there for the released prompt. loss: "all"; not there for the response.
    task: "classification"; not there where words are trained. tf32: not there for full float32.
    """

    epochs: float
    steps: int | None
    batch_size: int
    max_length: int
    dtype: str
    dropout: float
    schedule: str
    warmup_ratio: float
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    max_grad_norm: float
    prompt: NotRequired[str]
    loss: NotRequired[str]
    task: NotRequired[str]
    tf32: NotRequired[bool]


class TrainSpec(TypedDict):
    """Spec of training a cell. init: None for a method without factors.

    options: of the method's training; not there for a method that has none.
    """

    stage: str
    version: int
    method: str
    options: NotRequired[dict[str, Any]]
    quant: str
    init: InitSpec | None
    lora: dict[str, Any]
    learning_rate: float
    seed: int
    settings: TrainSettings


class AdoptSpec(QuantVersions):
    """Spec of taking in an adapter that was trained elsewhere. quant: of the base that it is scored on.

    prompt: the style in which it is asked, where that is not the released one.
    """

    stage: str
    version: int
    quant: str
    prompt: NotRequired[str]


class BaseSpec(QuantVersions):
    """Spec of the base as it is, before any training. target_modules, lora: as Targets, of a quantized one.

    dtype: what its weights are rounded to, as for the cells. prompt: as AdoptSpec.
    """

    stage: str
    version: int
    quant: str
    dtype: str
    target_modules: NotRequired[list[str] | str]
    lora: NotRequired[StartFields]
    prompt: NotRequired[str]


class TaskSpec(TypedDict):
    """The part of a generate spec that the task decides."""

    task: str
    max_new_tokens: int
    backend: str
    dtype: str


class GenerateSpec(TaskSpec):
    """Spec of what a trained cell generates on a task. train: of what was trained elsewhere, how it was taken in; of
    the base as it is, how it is made.
    """

    stage: str
    version: int
    train: TrainSpec | AdoptSpec | BaseSpec


class TaskVersion(TypedDict, total=False):
    """The version of the task file behind a spec, where it is not 1."""

    task_version: int | float


class EvaluateSpec(TaskVersion):
    """Spec of scoring what was generated."""

    stage: str
    version: int
    generate: GenerateSpec


class BatchCell(TypedDict):
    """A cell of a batch. start: the folder of its initial factors; None for a method without factors."""

    train: TrainSpec | AdoptSpec | BaseSpec
    start: str | None


class BatchTask(TypedDict):
    """A task of a batch. rows: the name of its dataset."""

    spec: TaskSpec
    rows: str


class BatchSpec(TypedDict):
    """Spec of what one launch of an engine generates: every cell on every task."""

    version: int
    backend: str
    cells: dict[str, BatchCell]
    tasks: dict[str, BatchTask]
