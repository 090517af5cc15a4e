"""The model card of a residual with its initial adapter: what it is, from which base, how it is loaded and trained."""

import json
from pathlib import Path
from typing import Any

from pissa_repro import methods, quantizers
from pissa_repro.adapters import card
from pissa_repro.model.skeleton import folder_architecture


def said(record: dict[str, Any]) -> list[str]:
    """How near it is to the base model, in sentences. record: of init.json."""
    quant, dtype = record["spec"]["quant"], record["dtype"]
    stored = f"in {dtype}" if dtype else "in the base model's dtype"
    lines = [
        f"Residual + s B A misses W by {record['equality_error']:.1e} of its norm, of {len(record['modules'])} modules "
        f"at most; storing the residual {stored} moves it by {record['rounding']:.1e}."
    ]
    if quant != "none":
        lines.append(f"Quantized to {quant} again when it is loaded, it is within {record['reload']:.1e} of the base.")
    return lines


def text(source: str | Path, init: str, record: dict[str, Any]) -> str:
    """README.md in Markdown with the hub's header. source: the base model's folder; init: the adapter's; record: its
    init.json."""
    spec, base = record["spec"], record["base"]
    name = methods.display(spec["method"], spec["quant"])
    sections = [
        card.head(base["name"], ["lora", spec["method"], "residual"], card.licence(source)),
        f"# {name} of rank {spec['rank']}: a residual model and its initial adapter",
        f"The target weights in this folder are the frozen base of {name}, and `{init}/` holds A and B: with s B A "
        "added they are the base model's, within the figures below. **Without the adapter these weights are no model "
        "to use**, nor with an adapter of another training.",
        "\n".join(f"- {line}" for line in [*_facts(record), *said(record)]),
        "## How to load and train it",
        card.RESIDUAL.format(
            auto=folder_architecture(source).auto_class, folder=".", adapter=init, more=", is_trainable=True", head=""
        ),
        *_quantized(spec),
        "## After the training",
        _after(spec, init, base["name"], name),
    ]
    return "\n\n".join(sections) + "\n"


def _facts(record: dict[str, Any]) -> list[str]:
    spec, base = record["spec"], record["base"]
    revision = f" at {base['commit']}" if base["commit"] else ""
    options = ", ".join(f"{key} {value}" for key, value in spec["options"].items())
    scale = "alpha / sqrt(r)" if spec["rslora"] else "alpha / r"
    return [
        f"Base model: {base['name'] or 'by no name (it was a folder)'}{revision}; SHA-256 of its config, tokenizer and "
        f"weights {base['fingerprint']}",
        f"Method: {spec['method']}" + (f" ({options})" if options else ""),
        f"Rank {spec['rank']}, alpha {spec['alpha']:g}, s = {scale}; on {', '.join(spec['target_modules'])}",
        "A and B are in float32",
    ]


def _quantized(spec: dict[str, Any]) -> list[str]:
    """How a quantized base is loaded in few bits, where transformers can."""
    if spec["quant"] == "none":
        return []
    _, quantizer, options = quantizers.find(spec["quant"])
    lines = f"The residual is quantized ({spec['quant']}) and stored dequantized: loaded as it is, it is the base."
    if not (words := quantizer.bitsandbytes(options)):
        return [lines]
    given = ", ".join(f"{key}={json.dumps(value) if isinstance(value, str) else value}" for key, value in words.items())
    return [
        f"{lines} To load it in 4 bits, add this, which quantizes every linear layer but the head:",
        "```python\nfrom transformers import BitsAndBytesConfig\n\n"
        f"quantization_config = BitsAndBytesConfig({given})\n```",
    ]


def _after(spec: dict[str, Any], init: str, base: str | None, name: str) -> str:
    if spec["quant"] != "none":
        return (
            f"Keep the residual: the trained adapter belongs on it. {name} was trained on quantized weights, and no "
            "plain LoRA on the base model is exactly that."
        )
    return (
        "The trained adapter belongs on this residual. A plain LoRA of twice the rank, for the base model itself:\n\n"
        f"```sh\npissa convert TRAINED --init {init} --out LORA{f' --base {base}' if base else ''}\n```"
    )
