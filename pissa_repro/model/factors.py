"""A folder of factors: A, B, the core C between them, what was taken out of W, and which base they belong to.

The factors belong on the *base* of the cell (quantize(W - s * offset)), not on the untouched model. So the folder is no
PEFT adapter, though its tensors have PEFT's key names: PEFT, vLLM and transformers refuse a folder without an
adapter_config.json, where they would load the factors on the wrong base without a word. What is made for them is in
adapters/.

A folder of initial factors holds all parts; one of trained factors holds the parts that were trained, and is read over
the start. base.json names these parts where they are not A and B alone.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pissa_repro import methods
from pissa_repro.model import keys
from pissa_repro.model.core import laid
from pissa_repro.model.keys import Matrices
from pissa_repro.model.naming import counterparts
from pissa_repro.model.patterns import alphas, of_module, patterns
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.provenance import versions
from pissa_repro.runtime.record import canonical, content, read_json, write_json
from pissa_repro.runtime.record_types import Base, ModelRecord

FACTORS, OFFSET, CONFIG = "factors.safetensors", "offset.safetensors", "factors.json"
BASE = "base.json"  # the base of the factors, what was taken out of it, and the hash of the folder
TRAINED = "factors"  # the folder of factors in the folder of what a training has left
FORMAT = 1  # of such a folder
USUAL = ("A", "B")  # the parts that train where a folder does not say it


@dataclass
class Factors:
    """A (k, in), B (out, k) and core of every module, float32; offset, core, free and trained as in methods.Start.

    rank, alpha: the usual ones. A module has the rank k of its A, and may have another alpha.
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
    core: Matrices = field(default_factory=dict)
    free: Matrices = field(default_factory=dict)
    trained: tuple[str, ...] = USUAL

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        kinds = (self.A, self.B, self.core, self.free, self.offset_A, self.offset_B)
        return sum(tensor.nbytes for kind in kinds for tensor in kind.values())

    def scaling(self, module: str) -> float:
        """s of a module: alpha / r, or alpha / sqrt(r) with rank-stabilised LoRA (arXiv 2312.03732)."""
        return scaling(self.alphas.get(module, self.alpha), len(self.A[module]), self.rslora)

    def wide(self, module: str) -> torch.Tensor:
        """B @ C (out, k): with A the plain LoRA that the parts of a module are."""
        return methods.wide(self.B[module], self.core.get(module))

    def taken(self, module: str) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The pair (A, B) that is taken out of a module's W; None for nothing."""
        if self.offset == "start":
            return self.A[module], self.wide(module)
        return (self.offset_A[module], self.offset_B[module]) if self.offset == "own" else None

    def offset_product(self, module: str) -> torch.Tensor | None:
        """s * offset_B @ offset_A (out, in), float32; None where nothing was taken out."""
        taken = self.taken(module)
        return None if taken is None else product(*taken, self.scaling(module))


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


def alpha_of(factor: float, rank: int, rslora: bool) -> float:
    """The alpha whose `scaling` at this rank is the factor, to the last bit where a float has it."""
    near = factor * (rank**0.5 if rslora else rank)
    beside = (near, math.nextafter(near, 0), math.nextafter(near, math.inf))
    return min(beside, key=lambda alpha: abs(scaling(alpha, rank, rslora) - factor))


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
    parts = {"A": factors.A, "B": factors.B, "core": factors.core, "free": factors.free}
    save_file(keys.named(parts), folder / FACTORS, {"format": "pt"})
    if factors.offset == "own":
        save_file(keys.named({"A": factors.offset_A, "B": factors.offset_B}), folder / OFFSET, {"format": "pt"})
    write_json(folder / CONFIG, lora_fields(factors))
    told = {"trained": list(factors.trained)} if factors.core or factors.trained != USUAL else {}
    made = {"offset": factors.offset, "quant": quant, "method": method, "start": None}
    _write_base(folder, {**base, **made, **told})


def save_trained(folder: str | Path, tensors: Matrices, fields: Mapping[str, Any], start: str | Path) -> None:
    """Write the folder of what was trained of the factors in `start`: the trained tensors only, under PEFT's names.

    fields: of LoraConfig. What was taken out of W, and from which base, is the start's. Others may get this folder: a
    base that is a folder here is named without its path.
    """
    folder, belongs = Path(folder), belongs_of(start)
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / FACTORS, {"format": "pt"})
    write_json(folder / CONFIG, fields)
    keys = ("name", "commit", "fingerprint", "offset", "quant", "method", "trained")
    kept = {key: belongs[key] for key in keys if key in belongs}
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
    facts = [files, belongs["fingerprint"], belongs["offset"], belongs["quant"]]
    facts += [belongs["trained"]] if "trained" in belongs else []
    return hashlib.sha256(canonical(facts).encode()).hexdigest()


def trained_parts(belongs: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts that train, as base.json says."""
    return tuple(belongs.get("trained", USUAL))


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
    parts = keys.read(folder / FACTORS)
    sha256(folder)
    own = keys.read(folder / OFFSET) if base["offset"] == "own" else {}
    usual = config["r"], config["lora_alpha"], config["use_rslora"], own.get("A", {}), own.get("B", {})
    more = alphas(config, parts["A"]), parts["core"], parts["free"], trained_parts(base)
    return Factors(parts["A"], parts["B"], base["offset"], *usual, *more)


def load_trained(folder: str | Path, initial: Factors) -> Factors:
    """Read the factors that a training has left in its folder, over those of the start; no offset, which stays its own.

    Their modules may have the base model's prefix in front (GPT-2). Raises UserError for factors that
    are not of the start's modules, and for more than factors (DoRA's magnitudes).
    """
    folder = trained_factors(folder)
    config, parts = read_json(folder / CONFIG), keys.read(folder / FACTORS)
    names = counterparts({name for part in parts.values() for name in part}, initial.A)
    for part, tensors in parts.items():
        wanted = {"core": set(initial.core), "free": set()}.get(part, set(initial.A))
        if {names.get(name) for name in tensors} != (wanted if part in initial.trained else set()):
            raise UserError(f"{folder}: its modules or parts are not those of the start, or it holds more than these.")
    own = {names[name]: alpha for name, alpha in alphas(config, names).items()}
    over = {part: {names[name]: tensor for name, tensor in tensors.items()} for part, tensors in parts.items()}
    core = {name: laid(one, initial.free.get(name), over["core"].get(name)) for name, one in initial.core.items()}
    usual = config["r"], config["lora_alpha"], config["use_rslora"]
    return Factors(
        initial.A | over["A"], initial.B | over["B"], None, *usual, alphas=own, core=core, trained=initial.trained
    )


def trained_factors(trained: str | Path) -> Path:
    """The folder of factors in what a training has left. Raises UserError where it has none."""
    folder = Path(trained) / TRAINED
    if not folder.is_dir():
        raise UserError(f"{trained}: holds no {TRAINED}/ with trained factors. Delete it and run again.")
    return folder
