"""An adapter's folder as PEFT writes it: its config, and what each of its tensors is. Read from headers alone."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pissa_repro.model.factors import CONFIG as OURS
from pissa_repro.model.factors import TRAINED, scaling
from pissa_repro.model.header import Stored, header
from pissa_repro.model.keys import PREFIX
from pissa_repro.model.patterns import of_module
from pissa_repro.model.peft_words import PLAIN
from pissa_repro.runtime.errors import UserError

ADAPTER, CONFIG = PLAIN
FACTOR = re.compile(r"(?P<module>.+)\.lora_(?:embedding_)?(?P<side>[AB])(?:\.weight)?")
DTYPES = ("F32", "F16", "BF16")
EMBEDDINGS = ("embed_tokens", "lm_head")  # what PEFT saves unasked where the vocabulary grew (save_embedding_layers)
TAKING = ("pissa", "olora", "corda", "lora_ga")  # init_lora_weights by which PEFT takes the start out of the base
CHANGING = (*TAKING, "loftq")  # by which it changes the base
FIELDS: dict[str, type | tuple[type, ...]] = {  # of a config that is read here, where they are not null
    **dict.fromkeys(("base_model_name_or_path", "revision", "task_type", "bias", "peft_version"), str),
    **dict.fromkeys(("rank_pattern", "alpha_pattern"), dict),
    "target_modules": (list, str),
    "modules_to_save": list,
}
MERGE = "Merge it instead: load it on the base that it was trained on, merge_and_unload(), save_pretrained()"
# Fields of LoraConfig that make an adapter more than W + s B A, with what to do about it.
MORE_THAN_LORA = {
    "use_dora": f"DoRA scales the columns of W + s B A, which no plain LoRA can. {MERGE}",
    "lora_bias": f"B has a bias of its own. {MERGE}",
    "alora_invocation_tokens": "it acts after its tokens only, and before them the base must be the residual",
    "layer_replication": f"its layers are copies that share one base weight. {MERGE}",
    "target_parameters": f"its factors belong to stacked parameters (experts), not to modules. {MERGE}",
    "megatron_config": "its factors belong to Megatron's parallel layers, which are split among processes",
    **dict.fromkeys(
        ("use_qalora", "use_bdlora", "arrow_config", "kasa_config", "velora_config", "monteclora_config"),
        f"no plain LoRA computes what it computes. {MERGE}",
    ),
}

MERGED = ("use_dora", "lora_bias")  # of these, what PEFT's merge_and_unload puts into the weights exactly


class Module(NamedTuple):
    """The factors of one module: their keys, the rank, and the factor before B @ A."""

    a: str
    b: str
    rank: int
    alpha: float
    scaling: float


@dataclass(frozen=True)
class Adapter:
    """A folder that was read. weights: the file of its tensors; others: keys that are no factors.

    modules: by the name in the base model.
    """

    path: Path
    weights: Path
    config: dict[str, Any]
    tensors: dict[str, Stored]
    modules: dict[str, Module]
    others: list[str]

    @property
    def rank(self) -> int:
        """The largest rank of a module."""
        return max(module.rank for module in self.modules.values())


def read(path: Path, place: str, merging: bool = False) -> Adapter:
    """Read a LoRA adapter's config and the header of its weights. place: the argument that names it.

    merging: it is to be merged by PEFT, which can do more than W + s B A. Raises UserError when it is no whole
    safetensors LoRA of PEFT, or more than that.
    """
    folder = find(path, place)
    config = config_of(folder / CONFIG)
    for field, reason in MORE_THAN_LORA.items():
        if config.get(field) and not (merging and field in MERGED):
            raise UserError(f"{folder}: {field} is set, and cannot be converted: {reason}.")
    adapter = of(folder, weights(folder), config)
    _refuse_unexplained(folder, config, adapter.others)
    return adapter


def of(folder: Path, weights: Path, config: dict[str, Any]) -> Adapter:
    """The adapter of a file of tensors under PEFT's names and of a config. Raises UserError where they do not fit."""
    tensors = header(weights)
    modules = _modules(folder, config, tensors)
    factors = {key for module in modules.values() for key in (module.a, module.b)}
    return Adapter(folder, weights, config, tensors, modules, sorted(tensors.keys() - factors))


def find(path: Path, place: str) -> Path:
    """The folder itself, or its only subfolder with an adapter (PEFT's for a named one; pissa_init beside a residual).

    Raises UserError when there is none, or several.
    """
    if not path.is_dir():
        raise UserError(
            f"{place} {path}: no such folder. One on a hub: `hf download OWNER/NAME --local-dir DIR` first."
        )
    if (path / CONFIG).is_file():
        return path
    inside = sorted(config.parent for config in path.glob(f"*/{CONFIG}"))
    if len(inside) > 1:
        raise UserError(f"{place} {path}: holds several adapters. Choose one: {', '.join(map(str, inside))}.")
    if any((path / name).is_file() for name in (OURS, f"{TRAINED}/{OURS}")):
        raise UserError(
            f"{place} {path}: factors of a cell, which belong on its base. The cell's plain LoRA is the top level of "
            "its trained/, where one is exact; `pissa export` gives the other forms."
        )
    if not inside:
        raise UserError(f"{place} {path}: not an adapter's folder (no {CONFIG}).")
    return inside[0]


def config_of(path: Path) -> dict[str, Any]:
    """The config, which must be a LoRA's, with a rank, an alpha, and patterns that are regular expressions."""
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}).") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise UserError(f"{path}: not the config of a LoRA adapter (peft_type LORA).")
    for key, kind in FIELDS.items():
        if config.get(key) is not None and not isinstance(config[key], kind):
            raise UserError(f"{path}: {key} is {config[key]!r}, which PEFT does not write.")
    ranks = {"r": config.get("r"), **(config.get("rank_pattern") or {})}
    alphas = {"lora_alpha": config.get("lora_alpha"), **(config.get("alpha_pattern") or {})}
    for key, value in (*ranks.items(), *alphas.items()):
        if not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise UserError(f"{path}: {key} is {value!r}; a number above 0 is needed.")
        try:
            re.compile(key)
        except re.error as error:
            raise UserError(f"{path}: the pattern {key!r} is no regular expression ({error}).") from None
    return config


def weights(folder: Path) -> Path:
    """The file of an adapter's tensors. Raises UserError for none, and for a pickle."""
    path = folder / ADAPTER
    if (old := path.with_suffix(".bin")).is_file() and not path.is_file():
        raise UserError(
            f"{old}: a pickle, which can run code when it is read. Convert it where you trust it: "
            f"safetensors.torch.save_file(torch.load('{old.name}', weights_only=True), '{ADAPTER}')."
        )
    if not path.is_file():
        raise UserError(f"{folder}: has no {ADAPTER}.")
    return path


def _modules(folder: Path, config: dict[str, Any], tensors: dict[str, Stored]) -> dict[str, Module]:
    """The factors by module; both must be there, of the config's rank, in one floating dtype."""
    sides: dict[str, dict[str, str]] = {}
    for key in tensors:
        if found := FACTOR.fullmatch(key):
            sides.setdefault(found["module"].removeprefix(PREFIX), {})[found["side"]] = key
    if not sides:
        raise UserError(f"{folder}: holds no LoRA factors (keys that end in lora_A.weight and lora_B.weight).")
    modules = {}
    for name, keys in sides.items():
        if missing := {"A", "B"} - keys.keys():
            raise UserError(f"{folder}: {name} has no lora_{min(missing)}. The file is not whole.")
        a, b, made = tensors[keys["A"]], tensors[keys["B"]], module_of(config, name, keys["A"], keys["B"])
        if min(len(a.shape), len(b.shape)) < 2 or not a.shape[0] == b.shape[1] == made.rank:
            raise UserError(
                f"{folder}: the factors of {name} have shapes {a.shape} and {b.shape}, {CONFIG} says rank {made.rank}. "
                "PEFT cuts a rank above the smaller side of a weight: give that module its own in rank_pattern."
            )
        if a.dtype != b.dtype or a.dtype not in DTYPES:
            raise UserError(f"{folder}: {name} in {a.dtype} and {b.dtype}; one of {', '.join(DTYPES)} is needed.")
        modules[name] = made
    return modules


def is_embedding(key: str) -> bool:
    """Whether a factor's key is that of an embedding's, A (r, rows) and B (columns, r)."""
    return ".lora_embedding_" in key


def module_of(config: dict[str, Any], name: str, a: str, b: str) -> Module:
    """What a config says of the module `name`, whose factors have the keys a and b."""
    rank, alpha = (of_module(config, which, name) for which in ("rank", "alpha"))
    return Module(a, b, rank, alpha, scaling(alpha, rank, bool(config.get("use_rslora"))))


def _refuse_unexplained(folder: Path, config: dict[str, Any], others: list[str]) -> None:
    """Raise UserError for a tensor that no field of the config asks for, or a module_to_save without its tensors."""
    saved = config.get("modules_to_save") or []
    for name in saved:
        if not any(name in key.split(".") or f".{name}." in key for key in others):
            raise UserError(f"{folder}: {CONFIG} has modules_to_save {name}, but no tensor of it is in {ADAPTER}.")
    for key in others:
        parts = key.split(".")
        known = (
            any(name in parts or f".{name}." in key for name in saved)
            or (parts[-1] == "bias" and (config.get("bias", "none") != "none" or config.get("lora_bias")))
            or (parts[-1] == "lora_magnitude_vector" and config.get("use_dora"))
            or (config.get("trainable_token_indices") and "trainable_tokens" in key)
            or (parts[-1] == "weight" and any(name in parts for name in EMBEDDINGS))
        )  # fmt: skip
        if not known:
            raise UserError(f"{folder / ADAPTER}: holds {key}, which {CONFIG} does not account for.")
