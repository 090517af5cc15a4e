"""What a checked config holds: the types of its sections. The values and their limits are in config/schema.yaml.

Types only: no code depends on this at run time.
"""

from typing import Any, Literal, NotRequired, TypedDict

from pissa_repro.runtime.specs import DataSource, ModelSource, TrainSettings

Axis = Literal["models", "datasets", "tasks", "ranks", "learning_rates"]  # of a sweep: what panels are made of


class Model(ModelSource, total=False):
    """A model. paper: the paper's name of it. gpus: cards of a training; sharding: what of the weights they share."""

    display: str
    paper: str
    gpus: int
    sharding: Literal["none", "full", "auto"]
    micro_batch_size: int | Literal["auto"]
    gradient_checkpointing: bool
    compile: bool


class Dataset(DataSource, total=False):
    """A dataset. of: the one that it is a part of, with a share and its seed, or without another share."""

    of: str
    share: float
    seed: int
    without: str
    display: str
    paper: str


class Statistics(TypedDict, total=False):
    """Another draw of rows than the method's own, for what its start knows of data. data: a dataset."""

    rows: int
    data: str
    seed: int


class WrittenMethod(TypedDict):
    """A named method as the config writes it. init: a file in methods/. lora: fields of LoraConfig."""

    init: str
    options: NotRequired[dict[str, Any]]
    lora: NotRequired[dict[str, Any]]
    statistics: NotRequired[Statistics]
    display: NotRequired[str]


class NamedMethod(TypedDict):
    """The same with what is not written filled in."""

    init: str
    options: dict[str, Any]
    lora: dict[str, Any]
    statistics: NotRequired[Statistics]
    display: NotRequired[str]


class Task(TypedDict):
    """A benchmark. task: a task file. dataset: its rows."""

    task: str
    dataset: str
    max_new_tokens: int
    backend: NotRequired[str]
    dtype: NotRequired[str]
    paper: NotRequired[str]


class WrittenAdopted(TypedDict):
    """An adapter that was trained elsewhere, as the config writes it. dataset: what it is said to be trained on."""

    adapter: str
    model: str
    dataset: str
    init: NotRequired[str]
    residual: NotRequired[str]
    quant: NotRequired[str]
    prompt: NotRequired[str]
    display: NotRequired[str]
    trust: NotRequired[bool]


class WrittenElsewhere(TypedDict):
    """Results of other people. path: a file or a folder. source: where they are from. metric: a key in them."""

    path: str
    format: str
    source: str
    model: str
    dataset: str
    task: str
    metric: NotRequired[str]


class Train(TrainSettings):
    """The training settings, and those that belong to the initial factors. alpha: "rank", or a number."""

    target_modules: list[str] | str
    alpha: float | str
    rslora: bool


class Override(TypedDict):
    """Training settings, rank or learning rate of the cells that `where` names."""

    where: dict[str, str]
    set: dict[str, Any]
    why: str


class SweptCell(TypedDict):
    """A method on a quantization."""

    method: str
    quant: str


class Swept(TypedDict):
    """What is swept: every combination. max_scores: how many scores it may come to, where that is more than usual.

    adopted: names of adapters that were trained elsewhere and are scored beside them. common_rate: the one of the
    learning rates that stands for the paper's, which has one for all methods. bases: quantizations on which the base is
    scored as it is.
    """

    models: list[str]
    datasets: list[str]
    cells: list[SweptCell]
    ranks: list[int]
    learning_rates: list[float]
    seeds: list[int]
    tasks: list[str]
    max_scores: NotRequired[int]
    common_rate: NotRequired[float]
    adopted: NotRequired[list[str]]
    bases: NotRequired[list[str]]


class SweptApart(TypedDict, total=False):
    """What one exhibit sweeps beside the sweep; an axis that it does not say is the sweep's."""

    models: list[str]
    datasets: list[str]
    cells: list[SweptCell]
    ranks: list[int]
    learning_rates: list[float]
    seeds: list[int]


class Scoring(TypedDict):
    """How scoring is shared out."""

    cells_per_engine: int


class Gptq(TypedDict):
    """The datasets of GPTQ's row of Table 9, and how many rows of each are taken."""

    calibration: str
    text: str
    rows: int


class ErrorData(TypedDict):
    """The rows that errors are weighed by: a dataset, how many are drawn, and with which seed (0 if not said)."""

    dataset: str
    rows: int
    seed: NotRequired[int]


class Gradients(TypedDict):
    """The models whose gradients at the start are compared, over how many seeds of it and on how many rows."""

    models: list[str]
    seeds: NotRequired[int]
    rows: NotRequired[int]


class Toy(TypedDict):
    """The toy of Figure 2a. data: the folder of MNIST's files; not there for the digits of scikit-learn."""

    data: NotRequired[str]
    seeds: NotRequired[int]


class Studies(TypedDict):
    """The studies of initialisation and quantization error."""

    models: list[str]
    target_modules: list[str] | None
    module: str | None
    methods: list[str]
    ranks: list[int]
    rank: int
    alternations: list[int]
    many_alternations: list[int]
    quants: list[str]
    blocks: list[str]
    data: NotRequired[ErrorData]  # no default: the config of a sweep without any stays as it is
    gptq: Gptq | None
    gradients: NotRequired[Gradients]  # no default, as `data`
    toy: NotRequired[Toy | None]  # no default, as `data`
    trained: bool
    svd: list[str]


class Config(TypedDict):
    """A config with its defaults filled in; those of the methods are filled in by config.method_definition."""

    models: dict[str, Model]
    datasets: dict[str, Dataset]
    methods: dict[str, WrittenMethod]
    tasks: dict[str, Task]
    adopted: NotRequired[dict[str, WrittenAdopted]]  # no default: the config of a sweep without any stays as it is
    elsewhere: NotRequired[dict[str, WrittenElsewhere]]  # nor of one without these
    train: Train
    overrides: list[Override]
    sweep: Swept
    exhibits: NotRequired[dict[str, SweptApart]]  # no default: the config of a sweep without any stays as it is
    scoring: Scoring
    studies: Studies
