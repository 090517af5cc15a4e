"""What specs and records hold: the types of the plain mappings that go through JSON.

A spec holds everything that decides a stage's result (plan/sweep.py makes them); a record says how a number came
about, and holds the spec. Types only: keys are what the files have, and no code depends on this at run time.
"""

from typing import Any, NotRequired, TypedDict


class ModelSource(TypedDict, total=False):
    """Where a model comes from: a folder (or "embedded"), or a hub id with its revision."""

    path: str
    hub: str
    revision: str
    gated: str


class DataSource(TypedDict, total=False):
    """Where rows come from, how many are taken, and which fields are prompt and response."""

    path: str
    hub: str
    revision: str
    file: str
    rows: int
    fields: dict[str, str]
    response_format: str


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


class InitSpec(TypedDict):
    """Spec of making initial factors. By hand, the versions and the model's spec are not there."""

    stage: str
    version: NotRequired[int]
    solver_version: NotRequired[int]
    model: NotRequired[ModelSpec]
    method: str
    method_version: NotRequired[int]
    options: dict[str, Any]
    quant: str
    rank: int
    alpha: float
    rslora: bool
    target_modules: list[str]
    seed: int


class QuantErrorSpec(TypedDict):
    """Spec of measuring the quantization error of initial factors."""

    stage: str
    version: int
    init: InitSpec


class TrainSettings(TypedDict):
    """The training settings that do not belong to the start (`train:` in the config)."""

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


class TrainSpec(TypedDict):
    """Spec of training a cell. init: None for a method without factors."""

    stage: str
    version: int
    model: ModelSpec
    method: str
    quant: str
    init: InitSpec | None
    lora: dict[str, Any]
    data: DataSpec
    learning_rate: float
    seed: int
    settings: TrainSettings


class GenerateSpec(TypedDict):
    """Spec of what a trained cell generates on a task."""

    stage: str
    version: int
    train: TrainSpec
    task: str
    max_new_tokens: int
    backend: str
    dtype: str
    data: DataSpec


class EvaluateSpec(TypedDict):
    """Spec of scoring what was generated."""

    stage: str
    version: int
    generate: GenerateSpec


class Git(TypedDict):
    """The checkout that a stage ran from; None where there is none."""

    commit: str | None
    dirty: bool | None


class Memory(TypedDict):
    """Peak bytes of a process."""

    memory_bytes: int
    gpu_memory_bytes: int | None


class End(Memory):
    """What is known of a run at its end."""

    seconds: float
    finished: str


class Hardware(TypedDict):
    """The machine. threads, gpus: where torch was loaded."""

    platform: str
    processor: str
    cores: int | None
    memory_gib: float
    threads: NotRequired[int]
    gpus: NotRequired[list[str]]


class Provenance(End):
    """Where a number comes from."""

    versions: dict[str, str]
    git: Git
    hardware: Hardware


class Base(TypedDict):
    """Which base model: its commit where it came from a hub, and the hash of its weights."""

    name: str
    commit: str | None
    fingerprint: str


class ModelRecord(Base):
    """The record of a fetched model. path: its folder. By hand, no more than this is known."""

    path: str
    spec: NotRequired[ModelSpec]
    provenance: NotRequired[Provenance]


class MetricValue(TypedDict):
    """A metric of a score; stderr is None where lm-eval has none."""

    value: float
    stderr: float | None
    n: int


class GenerationRun(Provenance):
    """A run that generated for a cell: its provenance and what it checked."""

    checks: dict[str, float]
    prompts_cut: int
    start_seconds: float


class Origin(TypedDict):
    """What generations were made from."""

    spec: GenerateSpec
    base: Base
    data_sha256: str
    trained_sha256: dict[str, str]


class Generated(TypedDict):
    """How a score's answers were generated."""

    seconds: float
    tokens: int
    runs: list[GenerationRun]


class ScoreRecord(TypedDict):
    """The record of a score. A task adds facts of its own, such as its judge or its sandbox."""

    spec: EvaluateSpec
    base: Base
    data_sha256: str
    trained_sha256: dict[str, str]
    metrics: dict[str, MetricValue]
    checks: dict[str, float]
    prompts_cut: int
    generated: Generated
    provenance: Provenance


# An item of a samples file: id, prompt, target, generated, and its value under each metric's name.
Sample = dict[str, Any]
