"""What the specs of an admission hold. Types only, as in specs.py; plan/admission.py makes them."""

from typing import NotRequired, TypedDict

from pissa_repro.runtime.specs import StartFields, TrainedWhole


class AdmitTargets(TypedDict):
    """Target modules, None for every projection of the layers, the ranks of their factors, what trains beside."""

    modules: list[str] | str | None
    ranks: list[int]
    lora: NotRequired[StartFields]
    whole: NotRequired[TrainedWhole]


class AdmitRows(TypedDict):
    """Training rows: the name of their dataset, the most tokens of an example; prompt, loss, task: as TrainSettings."""

    rows: str
    max_length: int
    prompt: NotRequired[str]
    loss: NotRequired[str]
    task: NotRequired[str]


class AdmitTask(TypedDict):
    """A task, the name of the dataset of its rows, the room for an answer in tokens, and what generates it.

    prompts: the styles of the cells that it asks; the released prompt alone is not named.
    """

    task: str
    rows: str
    max_new_tokens: int
    backend: NotRequired[str]
    prompts: NotRequired[list[str]]


class AdmitSpec(TypedDict):
    """Spec of checking a model and its rows before any work. trained: whether it is a language model to train."""

    stage: str
    version: int
    trained: bool
    targets: list[AdmitTargets]
    training: list[AdmitRows]
    tasks: dict[str, AdmitTask]
