"""What a decomposition is asked for, and all that is checked of it before a weight is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pissa_repro import methods
from pissa_repro.adapters import bases
from pissa_repro.adapters.trained import SAVED
from pissa_repro.model import checkpoint, targets, whole
from pissa_repro.model.base import module_name, sharing
from pissa_repro.model.skeleton import bare, folder_architecture, skeleton
from pissa_repro.plan.sweep import SOLVER_VERSION
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.record import refuse_no_space, unfinished_folder
from pissa_repro.runtime.record_types import ModelRecord
from pissa_repro.runtime.specs import InitSpec, Targets
from pissa_repro.sources.fetched import public_name


@dataclass(frozen=True)
class Asked:
    """A decomposition. specs: one for each rank, of one method. dtype: of the residual; None: each weight's own.

    base_id: hub id of the untouched model where its record names a folder; published: that of the residual.
    """

    base: ModelRecord
    specs: Sequence[InitSpec]
    out: Path
    dtype: str | None = None
    base_id: str | None = None
    published: str | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be written, after all checks. modules: PEFT's names of the target modules by those of the files."""

    asked: Asked
    shards: list[whole.Shard]
    modules: dict[str, str]
    base_id: str | None
    transposed: frozenset[str]

    @property
    def folders(self) -> list[str]:
        """Of each spec, below OUT."""
        specs = self.asked.specs
        return [f"r{spec['rank']}" for spec in specs] if len(specs) > 1 else ["."]

    @property
    def init(self) -> str:
        """The adapter's folder."""
        return f"{self.asked.specs[0]['method']}_init"

    def spec(self) -> dict[str, Any]:
        """What decides every bit of the weights."""
        made_by = {"solver": SOLVER_VERSION, "method": methods.version(self.asked.specs[0]["method"])}
        base, dtype = self.asked.base["fingerprint"], self.asked.dtype
        return {"specs": list(self.asked.specs), "base": base, "dtype": dtype, "versions": made_by}


def plan(asked: Asked) -> Plan:
    """Check everything that can be known before a weight is read.

    Raises UserError for an OUT that has no room, for names that are no hub ids, a model that is quantized
    already or no language model, and a target that shares its weight with another.
    """
    if asked.dtype not in (None, *whole.DTYPES):
        raise unknown("dtype", asked.dtype, whole.DTYPES, "--dtype")
    for option, name in (("--base", asked.base_id), ("--published-as", asked.published)):
        if name:
            bases.asked_hub_id(option, name)
    path = asked.base["path"]
    shards, modules = whole.shards(path, asked.dtype), _modules(path, asked.specs[0])
    known = asked.base_id or public_name(asked.base)
    made = Plan(asked, shards, modules, known, checkpoint.transposed(path))
    _check_room(made)
    return made


def _modules(folder: str, wanted: Targets) -> dict[str, str]:
    """transformers' names of the target modules by those of the files."""
    model = skeleton(folder)
    names = {name: module_name(model, name) for name in targets.chosen(folder, wanted)}
    for module in sharing(bare(folder), names.values()):
        raise UserError(f"--target-module: {module} shares its weight with the embedding; take it out.")
    return names


def _check_room(plan: Plan) -> None:
    """Raise UserError where the disk of OUT has no room for what is still to be written."""
    out = plan.asked.out
    shapes = checkpoint.shapes(plan.asked.base["path"], list(plan.modules)).values()
    factors = sum(4 * spec["rank"] * sum(shape) for spec in plan.asked.specs for shape in shapes)
    whole_size = len(plan.asked.specs) * sum(shard.size for shard in plan.shards) + 2 * factors  # kept, then joined
    there = sum(path.stat().st_size for path in unfinished_folder(out).rglob("*.safetensors"))
    refuse_no_space(out, whole_size - there)


def adapter_config(plan: Plan, spec: InitSpec) -> dict[str, Any]:
    """PEFT's LoraConfig of the adapter: its base is the residual, and the initialisation is done."""
    alpha = spec["alpha"]
    return {
        **SAVED,
        "task_type": folder_architecture(plan.asked.base["path"]).task_type,
        "base_model_name_or_path": plan.asked.published,
        "r": spec["rank"],
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "use_rslora": spec["rslora"],
        "target_modules": spec["target_modules"],
        "init_lora_weights": True,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(name.rsplit(".", 1)[-1] in plan.transposed for name in plan.modules),
    }
