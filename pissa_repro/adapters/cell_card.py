"""The model card of a trained cell: its training in numbers, and how others load what it has left."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pissa_repro.adapters import card
from pissa_repro.adapters.folder import CONFIG, read
from pissa_repro.model import classes, factors
from pissa_repro.model.architecture import CLASSIFICATION, of_record
from pissa_repro.model.skeleton import folder_architecture
from pissa_repro.runtime.record import canonical, read_json
from pissa_repro.runtime.record_types import Git, ModelRecord, ScoreRecord, TrainFacts
from pissa_repro.sources.fetched import public_name
from pissa_repro.sources.prompt import named
from pissa_repro.training.examples import RESPONSE

ROUNDED = " It was trained on a base in bfloat16, where what was left of W was rounded: here that rounding is lost."
BESIDE = "trained"  # the folder of the trained adapter beside a residual
EXPORT = """## How to load it

Where the records of the cell are, make what other tools load (`pissa export --help`):

```sh
pissa export CELL --as residual --out DIR  # the base as it was trained on, and the adapter for it
pissa export CELL --as merged --out DIR  # one model
pissa export CELL --as lora --out DIR  # a plain LoRA, also one larger than the matrices; of a quantized base: --base
```"""


WHAT = {
    "lora": "a plain LoRA",
    "merged": "one model",
    "residual": "the base that it was trained on, and its adapter",
    "peft-init": "the adapter before the training",
}


@dataclass(frozen=True)
class Trained:
    """A training that has ended. folder: what it has left; start: its initial factors, None for none.

    name: of the cell; label: the config's name of the base model, for one that is on no hub.
    """

    folder: Path
    start: Path | None
    model: ModelRecord
    name: str
    label: str

    @property
    def method(self) -> str:
        """What it started from."""
        return str(factors.belongs_of(self.start)["method"]) if self.start else "full"

    @property
    def base(self) -> str:
        """The base's name on other machines: its hub id, or what the config calls it; never a path."""
        return public_name(self.model) or self.label


def text(trained: Trained, facts: TrainFacts, git: Git, why: str | None, scores: Mapping[str, ScoreRecord]) -> str:
    """README.md. git: of the training; why: why trained factors are not given as a plain LoRA; scores: by task."""
    spec = facts["spec"]
    tags = [*(["lora"] if spec["init"] else []), spec["method"], "pissa-repro"]
    sections = [
        card.head(public_name(trained.model), tags, card.licence(trained.model["path"])),
        f"# {trained.name}",
        f"{trained.base}, trained by pissa-repro with the method `{spec['method']}`.",
        "| | |\n|---|---|\n" + "\n".join(_line(*fact) for fact in _facts(trained, facts, git)),
        *_scores(scores),
        _loading(trained, facts, why),
    ]
    return "\n\n".join(sections) + "\n"


def exported(trained: Trained, form: str, folder: Path, name: str, lines: list[str]) -> str:
    """README.md of an export that takes the name `name` once it is whole. lines: what is said of it."""
    method, base = trained.method, public_name(trained.model)
    tags = ["pissa-repro", method] if form == "merged" else ["lora", method, "pissa-repro"]
    sections = [
        card.head(base, tags, card.licence(trained.model["path"])),
        f"# {trained.name}: {WHAT[form]}",
        f"{trained.base}, trained by pissa-repro with the method `{method}`.",
        "\n".join(f"- {line}" for line in lines),
        _loading_export(trained, form, folder, name),
    ]
    return "\n\n".join(sections) + "\n"


def _loading_export(trained: Trained, form: str, folder: Path, name: str) -> str:
    kind = folder_architecture(trained.model["path"])
    head = classes.loading(trained.folder)
    kind = CLASSIFICATION if head else kind
    if form == "merged":
        return card.loading_whole(name, kind)
    if form == "residual":
        auto, told = kind.auto_class, card.keywords(head)
        return "## How to load it\n\n" + card.RESIDUAL.format(
            auto=auto, folder=name, adapter=BESIDE, more="", head=told
        )
    if form == "lora":
        return card.loading(trained.base, name, read(folder, "lora").rank, read_json(folder / CONFIG), head)
    return f"## What it is for\n\n```sh\npissa convert TRAINED --init {shlex.quote(name)} --out LORA\n```"


def _line(key: str, value: Any) -> str:
    """A line of a table; an expression may hold the sign that ends a cell."""
    shown = str(value).replace("|", "\\|")
    return f"| {key} | {shown} |"


def _facts(trained: Trained, facts: TrainFacts, git: Git) -> list[tuple[str, Any]]:
    """The training in lines of a table."""
    spec, init, settings = facts["spec"], facts["spec"]["init"], facts["spec"]["settings"]
    of_init = [] if init is None else [
        ("rank, alpha", f"{init['rank']}, {init['alpha']:g}{' (rsLoRA)' if init['rslora'] else ''}"),
        ("target modules", chosen if isinstance(chosen := init["target_modules"], str) else ", ".join(chosen)),
        *((f"`{key}`", canonical(value)) for key, value in {**init.get("lora", {}), **spec["lora"]}.items()),
    ]  # fmt: skip
    base = facts["base"]
    return [
        ("base", f"{trained.base}{f', revision {commit}' if (commit := base['commit']) else ''}"),
        ("SHA-256 of the base", base["fingerprint"]),
        ("quantization of the base", spec["quant"]),
        *of_init,
        ("learning rate, seed", f"{spec['learning_rate']:g}, {spec['seed']}"),
        ("steps, batch size, dtype", f"{facts['steps']}, {settings['batch_size']}, {settings['dtype']}"),
        ("prompt, loss on", f"{named(spec)}, {settings.get('task') or settings.get('loss', RESPONSE)}"),
        ("trained parameters", f"{facts['trainable_parameters']:,}"),
        ("final loss", f"{facts['final_loss']:.4f}"),
        ("SHA-256 of the rows", facts["data_sha256"]),
        ("commit of pissa-repro", f"{git['commit']}{' (changed)' if git['dirty'] else ''}"),
    ]


def _scores(scores: Mapping[str, ScoreRecord]) -> list[str]:
    """A table of every metric with its standard error and its number of items."""
    lines = [
        f"| {task} | {name} | {found['value']:.4f} "
        f"| {'' if found['stderr'] is None else format(found['stderr'], '.4f')} | {found['n']} |"
        for task, record in scores.items()
        for name, found in record["metrics"].items()
    ]
    return (
        ["| task | metric | value | standard error | items |\n|---|---|---|---|---|\n" + "\n".join(lines)]
        if lines
        else []
    )


def _loading(trained: Trained, facts: TrainFacts, why: str | None) -> str:
    """What the folder holds, and how it is loaded."""
    name = trained.folder.name.lstrip(".")  # it has its own name once it is whole
    if trained.start is None:
        return card.loading_whole(name, of_record(facts.get("architecture")))
    inside = f"`{factors.TRAINED}/` holds what was trained; it belongs on the base that pissa-repro makes."
    if why is None:
        usual = card.loading(
            trained.base,
            name,
            read(trained.folder, "trained").rank,
            read_json(trained.folder / CONFIG),
            classes.loading(trained.folder),
        )
        rounded = ROUNDED if facts["spec"]["settings"]["dtype"] != "float32" else ""
        return f"This is a plain LoRA on the untouched model. {inside}{rounded}\n\n{usual}"
    return f"There is no adapter to load at this level: {why}. {inside}\n\n{EXPORT}"
