"""What lies in a model folder: its JSON files, its weights' files, and what makes it no base. No tensor is read here.

transformers takes model.safetensors where there is one, else the shards that model.safetensors.index.json
names (modeling_utils.py, _get_resolved_checkpoint_files). A folder where these could be two models is refused.
"""

import json
import math
from pathlib import Path
from typing import Any

from pissa_repro.model.peft_words import PLAIN
from pissa_repro.runtime.errors import UserError

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
LARGEST = 10**8  # bytes of a JSON file; safetensors has the same limit for its headers
# All that a tokenizer may be made of.
TOKENIZERS = (
    "tokenizer*", "*.model", "vocab.*", "merges.txt", "tekken.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja",
)  # fmt: skip
# Keys of a config.json that make transformers read another config, other weights, or fuse layers (other outputs).
STEERING = ("configuration_files", "transformers_weights", "fusion_config")


def config(folder: str | Path) -> dict[str, Any]:
    """The folder's config.json. Raises UserError where it is damaged or leads elsewhere, and for no base model."""
    folder = Path(folder)
    _refuse_adapted(folder)
    path = folder / CONFIG
    if not is_file(path):
        raise UserError(f"{folder}: not a model folder (no config.json).")
    content = read_json(path)
    for key in STEERING:
        if content.get(key) is not None:
            raise UserError(f"{path}: '{key}' leads to other files or layers than the folder's own. Remove it.")
    return content


def weight_files(folder: str | Path) -> dict[Path, set[str]]:
    """The files with weights, sorted, each with the tensors that an index promises for it.

    Raises UserError where both of transformers' names lead to weights, for an index that names anything but
    a file of its folder, and for a missing file.
    """
    folder = Path(folder)
    single, index = folder / SINGLE, folder / INDEX
    if not is_file(index):
        if not is_file(single):
            raise UserError(
                f"{folder}: neither model.safetensors nor {INDEX} with its shards; "
                "other formats are refused. Convert the weights first."
            )
        return {single: set()}
    shards = _promised(index)
    if is_file(single) and set(shards) != {single}:
        raise UserError(
            f"{folder}: holds {SINGLE}, and {INDEX} names other files: two models. "
            "transformers would take the first. Delete the one that is not meant."
        )
    for path in shards:
        if not is_file(path):
            raise UserError(f"{path}: this shard is missing. Fetch the model again.")
    return dict(sorted(shards.items()))


def _promised(index: Path) -> dict[Path, set[str]]:
    content, shards = read_json(index), dict[Path, set[str]]()
    if not isinstance(content.get("weight_map"), dict) or not isinstance(content.get("metadata"), dict):
        raise UserError(f"{index}: damaged (no weight_map or no metadata). Fetch the model again.")
    for name, file in content["weight_map"].items():
        if not isinstance(file, str) or "/" in file or "\0" in file or not file.endswith(".safetensors"):
            raise UserError(f"{index}: {name} is in {file!r}, which is no safetensors file of this folder.")
        shards.setdefault(index.parent / file, set()).add(name)
    if not shards:
        raise UserError(f"{index}: damaged (it names no weights). Fetch the model again.")
    return shards


def tokenizer_files(folder: str | Path) -> list[Path]:
    """What a tokenizer may be made of, sorted by name; those called tokenizer* first."""
    found: dict[Path, None] = {}
    for pattern in TOKENIZERS:
        paths = (path for path in sorted(Path(folder).glob(pattern)) if path.suffix or not path.is_dir())
        found |= dict.fromkeys(path for path in paths if is_file(path))
    return list(found)


def is_file(path: Path) -> bool:
    """Whether there is a file, or a link to one. Raises UserError for what only looks so: a pipe would never end."""
    if path.is_file():
        return True
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: no file, but a folder, a pipe or a link to nothing. Fetch the model again.")
    return False


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of finite numbers. Raises UserError when it is none.

    Infinite numbers may stand in lists (Mamba's time_step_limit).
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"larger than {LARGEST} bytes")
        content = json.loads(path.read_bytes().decode("utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}, not an object")
        _refuse_infinite(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}). Fetch the model again.") from None
    return content


def _refuse_infinite(content: Any, key: str = "") -> None:
    if isinstance(content, dict):
        for inner, value in content.items():
            if isinstance(value, float) and math.isinf(value):
                raise ValueError(f"'{inner}' is no finite number")
            _refuse_infinite(value, inner)
    elif isinstance(content, list):
        for value in content:
            _refuse_infinite(value, key)
    elif isinstance(content, float) and math.isnan(content):
        raise ValueError(f"'{key}' is not a number")


def _refuse_adapted(folder: Path) -> None:
    """Raise UserError for weights that are the model only together with an adapter, and for an adapter alone.

    PiSSA and LoftQ publish a residual with its adapter in pissa_init/ or loftq_init/; an adapter beside
    the weights would be put on the model by transformers without a word.
    """
    for path in sorted(folder.glob("*_init")):
        if path.is_dir() and (path.name == "pissa_init" or (path / PLAIN.config).exists()):
            raise UserError(
                f"{folder}: these weights are a residual, what an initialisation left; the model is these and the "
                f"adapter in {path.name}/. Take the base model that they were made from{_source(path)}."
            )
    for name in (PLAIN.config, PLAIN.weights, "adapter_model.bin"):
        if (folder / name).exists():
            raise UserError(
                f"{folder}: holds an adapter ({name}), so it is no base model. Take the base model"
                f"{_named(folder / PLAIN.config)}, or merge the adapter into the weights and take its files away."
            )


def _source(start: Path) -> str:
    """The model that a start was taken out of, as `_named`: base.json says it, whose config names the residual."""
    from pissa_repro.model.factors import BASE  # with torch, which this module does not need

    known = start / BASE
    return _named(known, "name") if known.is_file() else _named(start / PLAIN.config)


def _named(path: Path, key: str = "base_model_name_or_path") -> str:
    """The base model that a file names under this key, in brackets; nothing where it cannot be read."""
    if not path.is_file():
        return ""
    try:
        name = read_json(path).get(key)
    except UserError:
        return ""
    return f" ({name})" if isinstance(name, str) and name else ""
