"""What records hold: the types of the plain mappings that say how a number came about. A record holds its spec.

Types only, as in specs.py: keys are what the JSON has, and no code depends on this at run time.
"""

from typing import Any, NotRequired, TypedDict

from pissa_repro.runtime.admit_specs import AdmitRows
from pissa_repro.runtime.specs import AdoptSpec, BaseSpec, EvaluateSpec, GenerateSpec, ModelSpec, TrainSpec


class Git(TypedDict):
    """The checkout that a stage ran from; None where there is none."""

    commit: str | None
    dirty: bool | None


class Memory(TypedDict):
    """Peak bytes of a process."""

    memory_bytes: int
    gpu_memory_bytes: int | None
    preloaded: NotRequired[bool]


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


class Identity(TypedDict):
    """Which weights and which rows a stage has used."""

    base: Base
    data_sha256: str


class AdmittedRows(AdmitRows):
    """How training rows fit: counts of examples and of tokens (training/examples.py, Lengths)."""

    lengths: dict[str, int]


class Admitted(TypedDict):
    """What an admission found. modules: how many get factors, by type. architecture: as in TrainFacts. tokenizer: its
    tokens, those of them without a row of the embedding, and these rows. Both are None where nothing is trained.
    tasks: items, tokens of the longest prompt, and prompts that the window cuts.
    """

    modules: dict[str, int]
    architecture: str | None
    tokenizer: dict[str, int] | None
    training: list[AdmittedRows]
    tasks: dict[str, dict[str, int]]
    warnings: list[str]


class StartFacts(TypedDict):
    """What is measured of initial factors. captured: the share of |W|^2 that is taken out, and the most that any could.

    excess: over the best remainder; None where it was not measured. rank: of a module, where its method gave it
    another than the cell's.
    """

    equality_error: float
    norm_A: float
    norm_B: float
    norm_offset: float
    excess: float | None
    norm_core: NotRequired[float]
    rank: NotRequired[int]
    captured: NotRequired[float]
    captured_bound: NotRequired[float]


class ResidualFacts(TypedDict):
    """How far a residual lies from the frozen base, over |W|: as it is stored, and after it is quantized again."""

    rounding: float
    reload: NotRequired[float]


class ErrorSummary(TypedDict):
    """The errors of all modules: their sums, the reductions by type (None on a plain base), and each."""

    total: dict[str, float]
    reduction: dict[str, float] | None
    modules: dict[str, dict[str, float]]


class Step(TypedDict):
    """A step of a training. grad_norm: before clipping."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float


class MadeFrom(TypedDict):
    """All that decides a training, by content: its spec, and the hashes of weights, rows and start (None without)."""

    spec: TrainSpec
    weights: str
    rows: str
    start: str | None


class Asked(TypedDict, total=False):
    """How a model is asked, beside what the spec says: with `prompt: chat` the hash of the tokenizer's template."""

    chat_template_sha256: str


class TrainFacts(Identity, Asked):
    """What the record of a training says of its start and its steps. start_sha256: None without factors.

    architecture: causal, seq2seq or classification (model/architecture.py). diverged: the step at which the training
    diverged and ended; records of others do not have it. final_loss: None for such a training. sharding: how the
    processes shared the weights, where they did. gradient_checkpointing, compile: true, where it ran so.
    """

    spec: TrainSpec
    architecture: str
    start_sha256: str | None
    start_up: dict[str, float | None]
    trainable_parameters: int
    steps: int
    final_loss: float | None
    diverged: NotRequired[int]
    first_grad_norm: float
    lengths: dict[str, int]
    batch: dict[str, int]
    sharding: NotRequired[str]
    gradient_checkpointing: NotRequired[bool]
    compile: NotRequired[bool]


class TrainRecord(TrainFacts):
    """The record of a training. resumed_from: a step, or None. trained_sha256: of what it wrote, by file.

    update: mean over modules of |dW| / |W|; None where it is not known, and older records have none.
    """

    trained_sha256: dict[str, str]
    dtypes: dict[str, list[str]]
    train_seconds: float
    update: NotRequired[float | None]
    resumed_from: int | None
    provenance: Provenance


class AdoptFacts(TypedDict):
    """What is known of an adapter that was trained elsewhere. rank: the largest of a module.

    trained_as: how the base of its training was quantized, as its folders say; None where they do not. adopted_sha256:
    of what was taken in, by part and file. notes: sentences on what was checked.
    """

    rank: int
    trainable_parameters: int
    trained_as: str | None
    adopted_sha256: dict[str, dict[str, str]]
    notes: list[str]


class AdoptRecord(AdoptFacts):
    """The record of taking in an adapter, in the place of a training's.

    trained: "trained elsewhere", so that nothing is known of steps, losses and time. start_sha256: None, for no start
    of ours. trained_sha256: of what is scored, by file.
    """

    spec: AdoptSpec
    base: Base
    trained: str
    start_sha256: None
    trained_sha256: dict[str, str]
    provenance: Provenance


class BaseRecord(TypedDict):
    """The record of the base as it is, in the place of a training's. trained: "not trained"; else as AdoptRecord."""

    spec: BaseSpec
    base: Base
    trained: str
    trainable_parameters: int
    start_sha256: None
    trained_sha256: dict[str, str]
    provenance: Provenance


class MetricValue(TypedDict):
    """A metric of a score; stderr is None where lm-eval has none."""

    value: float
    stderr: float | None
    n: int


class GenerationRun(Provenance, Asked):
    """A run that generated for a cell: its provenance and what it checked."""

    checks: dict[str, float]
    prompts_cut: int
    start_seconds: float


class Origin(Identity):
    """What generations were made from."""

    spec: GenerateSpec
    trained_sha256: dict[str, str]


class Generated(TypedDict):
    """How a score's answers were generated."""

    seconds: float
    tokens: int
    runs: list[GenerationRun]


class ScoreFacts(Identity):
    """A score and how its answers were generated. A task adds facts of its own, such as its judge or its sandbox.

    seen_in_training: the rows whose prompt is one of the training's, too; None where that is not known. diverged: as
    in TrainFacts; such a score has no metrics, for nothing was generated.
    """

    spec: EvaluateSpec
    trained_sha256: dict[str, str]
    metrics: dict[str, MetricValue]
    checks: dict[str, float]
    prompts_cut: int
    seen_in_training: int | None
    diverged: NotRequired[int]
    generated: Generated


class ScoreRecord(ScoreFacts):
    """The record of a score."""

    provenance: Provenance


# An item of a samples file: id, prompt, target, generated, and its value under each metric's name.
Sample = dict[str, Any]
