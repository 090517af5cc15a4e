"""A folder of factors: A, B, what was taken out of W, and which base they belong to.

The factors belong on the *base* of the cell (quantize(W - s * offset)), not on the untouched model. So the folder is no
PEFT adapter, though its tensors have PEFT's key names: PEFT, vLLM and transformers refuse a folder without an
adapter_config.json, where they would load the factors on the wrong base without a word. What is made for them is in
adapters/.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pissa_repro.model.naming import counterparts
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.provenance import versions
from pissa_repro.runtime.record import canonical, content, read_json, write_json
from pissa_repro.runtime.record_types import Base, ModelRecord

Matrices = dict[str, torch.Tensor]
FACTORS, OFFSET, CONFIG = "factors.safetensors", "offset.safetensors", "factors.json"
BASE = "base.json"  # the base of the factors, what was taken out of it, and the hash of the folder
TRAINED = "factors"  # the folder of factors in the folder of what a training has left
FORMAT = 1  # of such a folder
PREFIX = "base_model.model."  # PEFT's, before the name of a module


@dataclass
class Factors:
    """A (r, in) and B (out, r) of every module, float32; offset as in methods.Start.

    rank, alpha: the usual ones. A module has the rank of its A, and may have another alpha.
    """

    A: Matrices
    B: Matrices
    offset: str | None  # None, "start", or "own" (then offset_A, offset_B)
    rank: int
    alpha: float
    rslora: bool
    offset_A: Matrices = field(default_factory=dict)
    offset_B: Matrices = field(default_factory=dict)
    alphas: dict[str, float] = field(default_factory=dict)  # of the modules with another one

    def scaling(self, module: str) -> float:
        """s of a module: alpha / r, or alpha / sqrt(r) with rank-stabilised LoRA (arXiv 2312.03732)."""
        return scaling(self.alphas.get(module, self.alpha), len(self.A[module]), self.rslora)

    @property
    def taken(self) -> tuple[Matrices, Matrices] | None:
        """The pairs (A, B) that are taken out of W; None for nothing."""
        if self.offset == "start":
            return self.A, self.B
        return (self.offset_A, self.offset_B) if self.offset == "own" else None

    def offset_product(self, module: str) -> torch.Tensor | None:
        """s * offset_B @ offset_A (out, in), float32; None where nothing was taken out."""
        if self.taken is None:
            return None
        a, b = self.taken
        return product(a[module], b[module], self.scaling(module))


def product(a: torch.Tensor, b: torch.Tensor, scaling: float) -> torch.Tensor:
    """scaling * b @ a, float32 (out, in), summed in float64.

    So its bits hardly ever depend on the device or the number of threads, nor do those of the
    base that it is taken out of: a last bit can decide a 4-bit code. A few rows at a time, so that no
    float64 matrix of the weight's size is in memory.
    """
    result, wide = a.new_empty(len(b), a.shape[1], dtype=torch.float32), a.double()
    for rows in torch.arange(len(b)).split(512):
        result[rows[0] : rows[-1] + 1] = scaling * b[rows[0] : rows[-1] + 1].double() @ wide
    return result


def scaling(alpha: float, rank: int, rslora: bool) -> float:
    """The factor before B @ A."""
    return alpha / rank**0.5 if rslora else alpha / rank


def of_module(config: Mapping[str, Any], which: str, module: str) -> Any:
    """A module's "rank" or "alpha": of the first pattern that it ends in, as PEFT's get_pattern_key, else the usual."""
    for key, value in (config.get(f"{which}_pattern") or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return config.get("r" if which == "rank" else "lora_alpha")


def patterns(config: Mapping[str, Any], ranks: Mapping[str, int], alphas: Mapping[str, float]) -> dict[str, Any]:
    """rank_pattern and alpha_pattern of LoraConfig for modules with these, where they are not the config's usual ones.

    Each key is one whole name. Without a difference there is no pattern.
    """
    found: dict[str, dict[str, Any]] = {
        "rank_pattern": {name: rank for name, rank in ranks.items() if rank != config["r"]},
        "alpha_pattern": {name: alpha for name, alpha in alphas.items() if alpha != config["lora_alpha"]},
    }
    return {
        field: {f"^{re.escape(name)}": value for name, value in values.items()}
        for field, values in found.items()
        if values
    }


def lora_fields(factors: Factors) -> dict[str, Any]:
    """The fields of PEFT's LoraConfig that say how the factors are to be used."""
    config = {
        "r": factors.rank,
        "lora_alpha": factors.alpha,
        "use_rslora": factors.rslora,
        "target_modules": sorted(factors.A),
        "lora_dropout": 0.0,
        "bias": "none",
    }
    return config | patterns(config, {name: len(a) for name, a in factors.A.items()}, factors.alphas)


def save(folder: str | Path, factors: Factors, base: Base, method: str, quant: str) -> None:
    """Write the folder of initial factors; `base` holds the name, commit and fingerprint of the base model."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_peft_names(factors.A, factors.B), folder / FACTORS, {"format": "pt"})
    if factors.offset == "own" and factors.taken:
        save_file(_peft_names(*factors.taken), folder / OFFSET, {"format": "pt"})
    write_json(folder / CONFIG, lora_fields(factors))
    _write_base(folder, {**base, "offset": factors.offset, "quant": quant, "method": method, "start": None})


def save_trained(folder: str | Path, tensors: Matrices, fields: Mapping[str, Any], start: str | Path) -> None:
    """Write the folder of what was trained of the factors in `start`: the trained tensors only, under PEFT's names.

    fields: of LoraConfig. What was taken out of W, and from which base, is the start's. Others may get this folder: a
    base that is a folder here is named without its path.
    """
    folder, belongs = Path(folder), belongs_of(start)
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / FACTORS, {"format": "pt"})
    write_json(folder / CONFIG, fields)
    kept = {key: belongs[key] for key in ("name", "commit", "fingerprint", "offset", "quant", "method")}
    if not kept["commit"] and Path(kept["name"]).is_dir():
        kept["name"] = Path(kept["name"]).name
    _write_base(folder, {**kept, "start": sha256(start)})


def _write_base(folder: Path, belongs: dict[str, Any]) -> None:
    """base.json. scaling: s, by module where it differs, for who reads the folder without our code.

    start, in `belongs`: the hash of the initial factors.
    """
    fields = read_json(folder / CONFIG)
    by_module = {
        name: scaling(of_module(fields, "alpha", name), of_module(fields, "rank", name), fields["use_rslora"])
        for name in fields["target_modules"]
    }
    alike = len(set(by_module.values())) == 1
    s = next(iter(by_module.values())) if alike else by_module
    made = {**belongs, "scaling": s, "format": FORMAT, "versions": versions()}
    write_json(folder / BASE, {**made, "sha256": _hash(folder, made)})


def sha256(folder: str | Path) -> str:
    """What a folder of factors is: the hash of A, B and offset, of how they are used, and of the base's weights.

    Raises UserError where a file is not as `save` left it: an edited r or lora_alpha makes another model.
    """
    belongs = belongs_of(folder)
    found = _hash(Path(folder), belongs)
    if belongs.get("sha256") != found:
        raise UserError(f"{folder}: these factors were changed after they were made. Delete the folder and run again.")
    return found


def belongs_of(folder: str | Path) -> dict[str, Any]:
    """What base.json says: base model, offset, quantization, method. Raises UserError for another version's."""
    path = Path(folder) / BASE
    belongs = read_json(path)
    if not isinstance(belongs, dict) or not {"name", "fingerprint", "offset", "quant", "format"} <= belongs.keys():
        raise UserError(f"{path}: not what this version writes. Delete the folder and run again.")
    if belongs["format"] != FORMAT:
        raise UserError(f"{path}: format {belongs['format']}; this version reads {FORMAT}. Take a newer version.")
    return belongs


def _hash(folder: Path, belongs: Mapping[str, Any]) -> str:
    files = {name: one for name, one in content(folder).items() if name in (FACTORS, OFFSET, CONFIG)}
    return hashlib.sha256(
        canonical([files, belongs["fingerprint"], belongs["offset"], belongs["quant"]]).encode()
    ).hexdigest()


def _peft_names(a: Matrices, b: Matrices) -> Matrices:
    return {f"{PREFIX}{name}.lora_{side}.weight": tensor.contiguous()
            for side, tensors in (("A", a), ("B", b)) for name, tensor in tensors.items()}  # fmt: skip


def load(folder: str | Path, model: ModelRecord) -> Factors:
    """Read a folder of factors that belong to a fetched model (its record).

    Raises UserError when a part is missing, damaged or changed, or when they were made from other weights.
    """
    folder = Path(folder)
    config, base = read_json(folder / CONFIG), belongs_of(folder)
    if base["fingerprint"] != model["fingerprint"]:
        raise UserError(
            f"{folder}: these factors are of another model: {base['name']} {base['fingerprint'][:12]}, "
            f"not {model['name']} {model['fingerprint'][:12]}. Delete the folder and run again."
        )
    a, b = _load_pair(folder / FACTORS)
    sha256(folder)
    own = _load_pair(folder / OFFSET) if base["offset"] == "own" else ({}, {})
    usual = config["r"], config["lora_alpha"], config["use_rslora"]
    return Factors(a, b, base["offset"], *usual, *own, _alphas(config, a))


def _alphas(config: dict[str, Any], modules: Iterable[str]) -> dict[str, float]:
    """The alpha of the modules that have another one than usual."""
    found = {name: of_module(config, "alpha", name) for name in modules}
    return {name: alpha for name, alpha in found.items() if alpha != config["lora_alpha"]}


def load_trained(folder: str | Path, initial: Factors) -> Factors:
    """Read the factors that a training has left in its folder; no offset, which stays the start's.

    Their modules may have the base model's prefix in front (GPT-2). Raises UserError for factors that
    are not of the start's modules, and for more than A and B (DoRA's magnitudes).
    """
    folder = trained_factors(folder)
    config, (a, b) = read_json(folder / CONFIG), _load_pair(folder / FACTORS)
    names = counterparts(a, initial.A)
    if names.keys() != a.keys() or set(names.values()) != set(initial.A) or a.keys() != b.keys():
        raise UserError(f"{folder}: its modules are not those of the start, or it holds more than A and B.")
    alphas = {names[name]: alpha for name, alpha in _alphas(config, a).items()}
    a, b = ({names[name]: tensor for name, tensor in side.items()} for side in (a, b))
    return Factors(a, b, None, config["r"], config["lora_alpha"], config["use_rslora"], alphas=alphas)


def trained_factors(trained: str | Path) -> Path:
    """The folder of factors in what a training has left. Raises UserError where it has none."""
    folder = Path(trained) / TRAINED
    if not folder.is_dir():
        raise UserError(f"{trained}: holds no {TRAINED}/ with trained factors. Delete it and run again.")
    return folder


def _load_pair(path: Path) -> tuple[Matrices, Matrices]:
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors raises its own type for damage, OSError for absence
        raise UserError(f"{path}: cannot be read ({error}). Delete its folder and run again.") from None
    sides: tuple[Matrices, Matrices] = ({}, {})
    for key, tensor in tensors.items():
        name, _, side = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".lora_")
        if side not in ("A", "B"):
            raise UserError(f"{path}: holds {key}, more than factors A and B (DoRA's magnitudes, biases?).")
        sides[side == "B"][name] = tensor
    return sides
