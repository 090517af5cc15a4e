"""Model cards: what a folder holds, from what, for which base, and how others load it."""

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pissa_repro.adapters.folder import CHANGING, Adapter
from pissa_repro.model.architecture import Architecture, of_task
from pissa_repro.model.folder import CONFIG
from pissa_repro.sources.fetched import sha256

NO_HEAD: Mapping[str, int] = {}
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # MaxLoRARanks in vLLM 0.32's config/lora.py

RESIDUAL = """```python
from peft import PeftModel
from transformers import {auto}

folder = "{folder}"  # this folder, or its id on a hub
residual = {auto}.from_pretrained(folder, dtype="auto"{head})
model = PeftModel.from_pretrained(residual, folder, subfolder="{adapter}"{more})
```"""
WHAT = {
    "lora": "It is a plain LoRA: it belongs on the untouched base model.",
    "to lora": (
        "It belongs on the untouched base model: W + s (B A - B0 A0) is W - s B0 A0 + s B A, the residual with the "
        "trained adapter. If that residual was quantized in training, the sum is not what was trained."
    ),
    "to pissa": (
        "It belongs on the residual model W - s B0 A0, not on W itself; B0 A0 is in the adapter that is named last "
        "below. Loading it decomposes nothing."
    ),
    "combined": "It is a plain LoRA, made of several, on the untouched base model of all of them.",
}


def head(base: str | None, tags: list[str], more: dict[str, str] | None = None) -> str:
    """The header that a hub reads. base: its hub id, None for a model that is on no hub."""
    fields = {"library_name": "peft" if "lora" in tags else "transformers", "base_model": base, **(more or {})}
    lines = [f"{key}: {value}" for key, value in fields.items() if value]
    return "\n".join(["---", *lines, f"tags: [{', '.join(tags)}]", "---"])


def text(kind: str, name: str, sources: Iterable[Adapter], config: dict[str, Any], notes: list[str]) -> str:
    """README.md of the folder `name`, in Markdown with the hub's header. notes: sentences on how it was made.

    The licence is that of the sources' cards, or of the residual around one; none where two name different ones.
    """
    base = config["base_model_name_or_path"]
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    sections = [
        head(base, ["lora"], _common_licence([one.path for one in sources])),
        f"# {'PiSSA adapter' if kind == 'to pissa' else 'LoRA'} of rank {rank}",
        WHAT[kind],
        "\n".join(f"- {note}" for note in notes),
        "Made from\n\n" + "\n".join(
            f"- {one.path.name}: {one.weights.name}, SHA-256 {sha256(one.weights)}" for one in sources
        ),
        loading(base or ("RESIDUAL" if kind == "to pissa" else "BASE"), name, rank, config),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def loading(model: str, folder: str, rank: int, config: dict[str, Any], head: Mapping[str, int] = NO_HEAD) -> str:
    """How PEFT and vLLM load the adapter in a folder, of this largest rank, on the model.

    head: what transformers is told of a head for classes (classes.loading).
    """
    kind = of_task(config.get("task_type"))
    local = "" if "/" in model else f"# where no hub has {model}: the folder of that model in its place\n"
    lines = [
        "## How to load it",
        f"```python\nfrom peft import PeftModel\nfrom transformers import {kind.auto_class}\n\n{local}"
        f'base = {kind.auto_class}.from_pretrained("{model}"{_revision(config)}{keywords(head)})\n'
        f'model = PeftModel.from_pretrained(base, "{folder}")\n```',
    ]
    limit, why = vllm(rank, config)
    if limit is None:
        lines.append(f"vLLM does not serve it as an adapter: {why}")
    else:
        module = f"{Path(os.path.abspath(folder)).name}={_path(folder)}"
        words = ("--enable-lora", "--max-lora-rank", str(limit), "--lora-modules", module)
        lines.append(f"```sh\n{shlex.join(('vllm', 'serve', model, *words))}\n```")
    return "\n\n".join(lines)


def _path(folder: str) -> str:
    """A folder so that no command takes it for the id of a model on a hub."""
    return folder if os.path.isabs(folder) else f"./{folder}"


def vllm(rank: int, config: dict[str, Any]) -> tuple[int | None, str | None]:
    """The --max-lora-rank that vLLM needs for an adapter of this largest rank, or None and why it is not served.

    As vLLM 0.32 reads adapters (lora/peft_helper.py).
    """
    init = config.get("init_lora_weights")
    if reason := of_task(config.get("task_type")).no_vllm:
        return None, reason
    if config.get("use_dora"):
        return None, "it is DoRA. Merge it into the base first."
    if isinstance(init, str) and init.startswith(CHANGING):
        return None, f"{init} takes its start out of the base. Convert it first: pissa convert."
    if config.get("modules_to_save") or config.get("bias", "none") != "none" or config.get("trainable_token_indices"):
        return None, "it holds more than A and B. Merge it into the base first."
    limit = next((limit for limit in VLLM_RANKS if limit >= rank), None)
    return limit, None if limit else f"its rank is {rank}, and vLLM serves up to {VLLM_RANKS[-1]}. Merge it first."


def keywords(given: Mapping[str, int]) -> str:
    """Keyword arguments as they are written behind others."""
    return "".join(f", {key}={value}" for key, value in given.items())


def _revision(config: dict[str, Any]) -> str:
    return f', revision="{config["revision"]}"' if config.get("revision") else ""


def loading_whole(folder: str, kind: Architecture) -> str:
    """How transformers and vLLM load a whole model of this architecture from a folder."""
    return (
        f"## How to load it\n\n```python\nfrom transformers import {kind.auto_class}, AutoTokenizer\n\n"
        f'model = {kind.auto_class}.from_pretrained("{folder}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{folder}")\n```\n\n'
        + (kind.no_vllm or f"```sh\n{shlex.join(('vllm', 'serve', _path(folder)))}\n```")
    )


def header(folder: str | Path) -> dict[str, str]:
    """The one-line fields in the header of a folder's README.md; none without a card. Lists come with an empty text."""
    card = Path(folder) / "README.md"
    if not card.is_file():
        return {}
    found = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    return dict(re.findall(r"^([a-z_]+): *(.*?) *$", found[1] if found else "", re.MULTILINE))


def licence(folder: str | Path) -> dict[str, str]:
    """The licence that a model's own card names in its header, for the header of what is made from it."""
    return {key: value for key, value in header(folder).items() if key.startswith("license") and value}


def _common_licence(adapters: Iterable[Path]) -> dict[str, str]:
    """The licence that the cards of adapters' folders, and of the models around these, agree in; else nothing."""
    places = [place for one in adapters for place in (one, one.parent) if place == one or (place / CONFIG).is_file()]
    found = [one for place in places if (one := licence(place))]
    return found[0] if all(one == found[0] for one in found) and found else {}
