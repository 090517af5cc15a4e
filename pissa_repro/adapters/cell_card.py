"""The model card of a trained cell: its training in numbers, and how others load what it has left."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pissa_repro.adapters import card
from pissa_repro.adapters.folder import CONFIG
from pissa_repro.model import factors
from pissa_repro.runtime.provenance import git_state
from pissa_repro.runtime.record import read_json
from pissa_repro.runtime.record_types import ModelRecord, TrainFacts

EXPORT = """## How to load it

Where the records of the cell are, make what other tools load (`pissa export --help`):

```sh
pissa export CELL --as residual --out DIR  # the base as it was trained on, and the adapter for it
pissa export CELL --as merged --out DIR  # one model
```"""


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
    def base(self) -> str:
        """The base's name on other machines: its hub id, or what the config calls it; never a path."""
        return self.model["name"] if self.model["commit"] else self.label


def text(trained: Trained, facts: TrainFacts, rank: int, why: str | None) -> str:
    """README.md. rank: of the plain LoRA, 0 without; why: the reason why trained factors are not given as one."""
    spec = facts["spec"]
    tags = [*(["lora"] if spec["init"] else []), spec["method"], "pissa-repro"]
    sections = [
        card.head(trained.base if trained.model["commit"] else None, tags, card.licence(trained.model["path"])),
        f"# {trained.name}",
        f"{trained.base}, trained by pissa-repro with the method `{spec['method']}`.",
        "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in _facts(trained, facts)),
        _loading(trained, rank, why),
    ]
    return "\n\n".join(sections) + "\n"


def _facts(trained: Trained, facts: TrainFacts) -> list[tuple[str, Any]]:
    """The training in lines of a table."""
    spec, init, settings = facts["spec"], facts["spec"]["init"], facts["spec"]["settings"]
    of_init = [] if init is None else [
        ("rank, alpha", f"{init['rank']}, {init['alpha']:g}{' (rsLoRA)' if init['rslora'] else ''}"),
        ("target modules", ", ".join(init["target_modules"])),
    ]  # fmt: skip
    git, base = git_state(), facts["base"]
    return [
        ("base", f"{trained.base}{f', revision {commit}' if (commit := base['commit']) else ''}"),
        ("SHA-256 of the base", base["fingerprint"]),
        ("quantization of the base", spec["quant"]),
        *of_init,
        ("learning rate, seed", f"{spec['learning_rate']:g}, {spec['seed']}"),
        ("steps, batch size, dtype", f"{facts['steps']}, {settings['batch_size']}, {settings['dtype']}"),
        ("trained parameters", f"{facts['trainable_parameters']:,}"),
        ("final loss", f"{facts['final_loss']:.4f}"),
        ("SHA-256 of the rows", facts["data_sha256"]),
        ("commit of pissa-repro", f"{git['commit']}{' (changed)' if git['dirty'] else ''}"),
    ]


def _loading(trained: Trained, rank: int, why: str | None) -> str:
    """What the folder holds, and how it is loaded."""
    name = trained.folder.name.lstrip(".")  # it has its own name once it is whole
    if trained.start is None:
        return card.loading_whole(name)
    inside = f"`{factors.TRAINED}/` holds what was trained; it belongs on the base that pissa-repro makes."
    if why is None:
        usual = card.loading(trained.base, name, rank, read_json(trained.folder / CONFIG))
        return f"This is a plain LoRA on the untouched model. {inside}\n\n{usual}"
    return f"There is no adapter to load at this level: {why}. {inside}\n\n{EXPORT}"
