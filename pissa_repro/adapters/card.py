"""The model card of a made adapter: what it is, from what, for which base, and how it is loaded."""

from collections.abc import Iterable
from typing import Any

from pissa_repro.adapters.folder import Adapter
from pissa_repro.sources.fetched import sha256

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # MaxLoRARanks in vLLM 0.32's config/lora.py


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


def text(kind: str, name: str, sources: Iterable[Adapter], config: dict[str, Any], notes: list[str]) -> str:
    """README.md of the folder `name`, in Markdown with the hub's header. notes: sentences on how it was made."""
    base = config["base_model_name_or_path"]
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    sections = [
        "---\nlibrary_name: peft\n" + (f"base_model: {base}\n" if base else "") + "tags: [lora]\n---",
        f"# {'PiSSA adapter' if kind == 'to pissa' else 'LoRA'} of rank {rank}",
        WHAT[kind],
        "\n".join(f"- {note}" for note in notes),
        "Made from\n\n" + "\n".join(
            f"- {one.path.name}: {one.weights.name}, SHA-256 {sha256(one.weights)}" for one in sources
        ),
        loading(kind, name, base, rank, config),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def loading(kind: str, name: str, base: str | None, rank: int, config: dict[str, Any]) -> str:
    """The section that says how PEFT and vLLM load the folder `name`, an adapter of this rank, on its base."""
    model = base or ("RESIDUAL" if kind == "to pissa" else "BASE")
    lines = [
        "## How to load it",
        "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{model}"{_revision(config)})\n'
        f'model = PeftModel.from_pretrained(base, "{name}")\n```',
    ]
    limit = vllm_limit(rank)
    if config.get("modules_to_save") or config.get("bias", "none") != "none" or config.get("trainable_token_indices"):
        lines.append("vLLM does not serve it as an adapter: it holds more than A and B. Merge it into the base first.")
    elif limit is None:
        lines.append(f"vLLM serves ranks up to {VLLM_RANKS[-1]}; merge it into the base first.")
    else:
        lines.append(
            f"```sh\nvllm serve {model} --enable-lora --max-lora-rank {limit} --lora-modules {name}=./{name}\n```"
        )
    return "\n\n".join(lines)


def vllm_limit(rank: int) -> int | None:
    """The --max-lora-rank that vLLM needs for a rank; None where no such limit is high enough."""
    return next((limit for limit in VLLM_RANKS if limit >= rank), None)


def _revision(config: dict[str, Any]) -> str:
    return f', revision="{config["revision"]}"' if config.get("revision") else ""
