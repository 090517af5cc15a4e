"""A trained and scored cell as a result of PEFT's method_comparison. Source: as peft_read.py.

Fields that have no counterpart here are null. What that format has no place for is under "pissa_repro", which its
readers pass over.
"""

import datetime
import platform
from typing import Any

from pissa_repro.exchange.peft_read import OWN
from pissa_repro.exchange.scored import Scored
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.sources.prompt import FORMS, named

PACKAGES = ("transformers", "peft", "datasets", "bitsandbytes", "torch")
NOTES = (
    "Of the accelerator's memory only the peak was measured: it stands for the average and the 99th percentile too, "
    "and is 0 where none was used.",
    "train total tokens: mean tokens of an example times the examples seen. file_size: of the trained parts, as "
    "stored; where they have gone, 4 bytes a parameter.",
    "batch_size is the effective one. train loss: mean over the last tenth of the steps.",
)


def document(cell: Scored, task: str, metric: str) -> dict[str, Any]:
    """The content of its file. Raises UserError for what was not trained here, and for a score that is no accuracy."""
    if "final_loss" not in cell.train:
        raise UserError(f"CELL {cell.folder}: was trained elsewhere; PEFT's format is of a training that is known.")
    if not cell.shown(task, metric).fraction:
        raise UserError(f"CELL {cell.folder}: '{metric}' of {task} is no accuracy, and PEFT's format has no other.")
    origin = cell.train["provenance"]
    start = datetime.datetime.fromisoformat(origin["finished"]) - datetime.timedelta(seconds=origin["seconds"])
    return {
        "run_info": {
            "created_at": start.isoformat(timespec="seconds"),
            "total_time": origin["seconds"],
            "experiment_name": f"{cell.asked['method']}/{cell.name}",
            "peft_branch": None,
            "train_config": _config(cell, task),
            "peft_config": _adapter(cell),
            "error_msg": "",
        },
        "train_info": _training(cell, cell.metric(task, metric)["value"]),
        "meta_info": _meta(cell, task),
        OWN: {**cell.facts(task, metric), "notes": list(NOTES)},
    }


def _config(cell: Scored, task: str) -> dict[str, Any]:
    spec, settings = cell.asked, cell.asked["settings"]
    asked = FORMS.get(named(spec))
    return {
        "model_id": cell.base,
        "dtype": settings["dtype"],
        "max_seq_length": settings["max_length"],
        "batch_size": cell.train["batch"]["effective"],
        "batch_size_eval": None,
        "max_steps": cell.train["steps"],
        "eval_steps": None,
        "compile": False,
        "query_template": asked[0].format(instruction="{query}") if asked else None,
        "seed": spec["seed"],
        "grad_norm_clip": settings["max_grad_norm"],
        "optimizer_type": "AdamW",
        "optimizer_kwargs": {
            "lr": spec["learning_rate"],
            "weight_decay": settings["weight_decay"],
            "betas": [settings["adam_beta1"], settings["adam_beta2"]],
            "eps": settings["adam_epsilon"],
        },
        "lr_scheduler": settings["schedule"],
        "use_amp": None,
        "autocast_adapter_dtype": True,
        "generation_kwargs": {"max_new_tokens": cell.scores[task]["spec"]["generate"]["max_new_tokens"]},
        "attn_implementation": None,
    }


def _adapter(cell: Scored) -> dict[str, Any] | None:
    """As a LoraConfig would say it; the start under our method's name. None for full fine-tuning."""
    init = cell.asked["init"]
    if init is None:
        return None
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": cell.base,
        "revision": cell.train["base"]["commit"],
        "r": init["rank"],
        "lora_alpha": init["alpha"],
        "use_rslora": init["rslora"],
        "lora_dropout": cell.asked["settings"]["dropout"],
        "target_modules": init["target_modules"],
        "init_lora_weights": init["method"],
        **init.get("lora", {}),
        **cell.asked["lora"],
    }


def _training(cell: Scored, accuracy: float) -> dict[str, Any]:
    train, peak = cell.train, cell.train["provenance"]["gpu_memory_bytes"] or 0
    seen, lengths = train["steps"] * train["batch"]["effective"], train["lengths"]
    last = {
        "step": train["steps"],
        "test accuracy": accuracy,
        "train loss": train["final_loss"],
        "train samples": seen,
        "train total tokens": round(seen * lengths["tokens"] / lengths["examples"]),
    }
    return {
        "accelerator_memory_reserved_avg": peak,
        "accelerator_memory_max": peak,
        "accelerator_memory_reserved_99th": peak,
        "train_time": train["train_seconds"],
        "file_size": _size(cell),
        "num_trainable_params": train["trainable_parameters"],
        "num_total_params": None,
        "status": "success",
        "metrics": [last],
    }


def _size(cell: Scored) -> int:
    stored = sum(path.stat().st_size for path in paths.Cell(cell.folder).trained.rglob("*.safetensors"))
    return stored or 4 * int(cell.train["trainable_parameters"])


def _meta(cell: Scored, task: str) -> dict[str, Any]:
    versions, machine = cell.train["provenance"]["versions"], cell.train["provenance"]["hardware"]
    trained, tested = cell.rows(cell.train["data_sha256"]), cell.rows(cell.scores[task]["data_sha256"])
    datasets = {rows.name or kind: {"sha": rows.commit, "created_at": None}
                for kind, rows in (("train", trained), ("test", tested))}  # fmt: skip
    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        packages |= {f"{name}-version": versions.get(name), f"{name}-commit-hash": None}
    return {
        "model_info": {"sha": cell.train["base"]["commit"], "created_at": None},
        "dataset_info": datasets,
        "package_info": packages,
        "system_info": {
            "system": str(machine.get("platform", platform.system())).partition("-")[0],
            "processor": machine.get("processor"),
            "accelerator": next(iter(machine.get("gpus") or ()), "cpu"),
        },
        "pytorch_info": f"PyTorch {versions.get('torch', 'unknown')}",
    }
