"""Read and check a config. A wrong one dies here, before any job, with the place named."""

import ast
import importlib.util
import json
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import jsonschema
import yaml

from pissa_repro import methods, quantizers, tasks
from pissa_repro.plan.sections import Config, NamedMethod, WrittenMethod
from pissa_repro.runtime.errors import UserError, unknown

Section = Literal["models", "datasets", "tasks"]  # those that a sweep takes names of
SECTIONS: tuple[Section, ...] = ("models", "datasets", "tasks")
ROOT = Path(__file__).resolve().parents[2]

# Fields of LoraConfig that something else decides: a second place would train another cell under a
# cell's name, or be ignored, because modules, ranks and scalings are those of the stored factors.
OWNED = {
    **dict.fromkeys(("r", "rank_pattern"), "config.sweep.ranks"),
    **dict.fromkeys(("lora_alpha", "alpha_pattern"), "config.train.alpha"),
    **dict.fromkeys(("target_modules", "layers_to_transform", "layers_pattern"), "config.train.target_modules"),
    **dict.fromkeys(("modules_to_save", "lora_bias", "bias", "trainable_token_indices"), "the method: factors only"),
    **dict.fromkeys(("init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config"), "'init'"),
    "use_rslora": "config.train.rslora",
    "lora_dropout": "config.train.dropout",
}

DEFAULTS = {
    "steps": None,
    "alpha": "rank",
    "rslora": False,
    "dropout": 0,
    "schedule": "cosine",
    "warmup_ratio": 0.03,
    "weight_decay": 0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
}

SCORING = {"cells_per_engine": 8}

# The paper's studies of initialisation and quantization error; `models` are the sweep's.
STUDIES = {
    "target_modules": None,  # every projection of the layers
    "module": None,  # of the single-matrix figures: the first one
    "methods": ["loftq", "pissa"],
    "ranks": [1, 2, 4, 8, 16, 32, 64, 128],
    "rank": 128,
    "alternations": [1, 5],
    "many_alternations": [1, 2, 4, 8, 16],
    "quants": ["nf4", "int8", "fp4", "nf4-dq"],
    "blocks": ["nf4-b32", "nf4-b32-dq", "nf4", "nf4-dq", "nf4-b128", "nf4-b128-dq"],
    "gptq": None,  # or {calibration, text: datasets, rows}: GPTQ's row of Table 9; needs the extra `gptq`
    "trained": False,  # whether tables also show what the sweep's trainings gave; they are then made first
    "svd": ["niter_1", "niter_2", "niter_4", "niter_8", "niter_16", "fast", "exact"],
}


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema, config/schema.yaml."""
    return yaml.safe_load((ROOT / "config" / "schema.yaml").read_text(encoding="utf-8"))


def load(*paths: str | Path) -> Config:
    """Read config files as Snakemake does: later files win, mappings merge, lists are replaced."""
    merged: dict[str, Any] = {}
    for path in paths:
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not valid YAML: {error}") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}.") from None
        if not isinstance(content, dict):
            raise UserError(f"{path}: a config is a mapping of sections, this is a {type(content).__name__}.")
        _merge(merged, content)
    return check(merged)


def _merge(target: dict[str, Any], extra: dict[str, Any]) -> None:
    for key, value in extra.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


def check(given: Mapping[str, Any]) -> Config:
    """The config as plain types with defaults filled in. Raises UserError where it makes no sense."""
    try:
        raw = json.loads(json.dumps(given, allow_nan=False))  # Snakemake hands over its own mapping types
    except (TypeError, ValueError) as error:  # a date, NaN: YAML reads 2024-01-01 and .nan as such
        raise UserError(f"config: {error}. Put the value into quotes if it is a text.") from None
    _check_schema(raw)
    raw.setdefault("methods", {})
    raw.setdefault("overrides", [])
    raw["train"] = DEFAULTS | raw["train"]
    raw["scoring"] = SCORING | raw.get("scoring", {})
    raw["studies"] = STUDIES | {"models": raw["sweep"]["models"]} | raw.get("studies", {})
    config = cast("Config", raw)  # what the schema has checked, and the defaults
    _check_names(config)
    _check_cells(config)
    _check_studies(config)
    return config


def _check_schema(config: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(schema())
    error = jsonschema.exceptions.best_match(validator.iter_errors(config))
    if error is None:
        return
    place = "config." + ".".join(str(part) for part in error.absolute_path) if error.absolute_path else "config"
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        stranger = next(key for key in error.instance if key not in known)
        raise unknown("key", stranger, known, place)
    if error.validator == "oneOf" and isinstance(error.instance, dict):
        raise UserError(f"{place}: give either 'path', or 'hub' with 'revision' (and 'file' for a dataset).")
    reasons = " / ".join(inner.message for inner in error.context) if error.validator == "oneOf" else error.message
    raise UserError(f"{place}: {reasons}.")


def _check_names(config: Config) -> None:
    sweep = config["sweep"]
    known_methods = set(methods.names()) | set(config["methods"])
    section: Section
    for section in SECTIONS:
        for name in sweep[section]:
            if name not in config[section]:
                raise unknown(section[:-1], name, config[section], f"config.sweep.{section}")
    for name in sweep["datasets"]:
        _need_fields(config, name, ("prompt", "response"), "training")
    for name, task in config["tasks"].items():
        if task["dataset"] not in config["datasets"]:
            raise unknown("dataset", task["dataset"], config["datasets"], f"config.tasks.{name}.dataset")
        if task["task"] not in tasks.names():
            raise unknown("task file", task["task"], tasks.names(), f"config.tasks.{name}.task")
        _need_fields(config, task["dataset"], tasks.metadata(task["task"])["fields"], f"task '{name}'")
    for name, method in config["methods"].items():
        methods.load(method["init"], f"config.methods.{name}.init")
        _check_lora(method.get("lora", {}), f"config.methods.{name}.lora")
    for number, override in enumerate(config["overrides"]):
        place = f"config.overrides[{number}].where"
        choices: dict[str, Collection[str]] = {"model": config["models"], "dataset": config["datasets"]}
        choices |= {"method": known_methods, "quant": quantizers.names()}
        for key, value in override["where"].items():
            if value not in choices[key]:
                raise unknown(key, value, choices[key], f"{place}.{key}")


def _need_fields(config: Config, dataset: str, needed: Iterable[str], user: str) -> None:
    fields = config["datasets"][dataset]["fields"]
    for role in needed:
        if role not in fields:
            raise UserError(
                f"config.datasets.{dataset}.fields: no '{role}', which {user} reads. It has: {', '.join(fields)}."
            )


def _check_lora(given: dict[str, Any], place: str) -> None:
    for key in given:
        if key in OWNED:
            raise UserError(f"{place}: '{key}' is not set here, {OWNED[key]} decides it.")
        if key not in lora_fields():
            raise unknown("LoraConfig field", key, lora_fields() - OWNED.keys(), place)


@cache
def lora_fields() -> set[str]:
    """The fields of PEFT's LoraConfig, read from its source: to import it would import torch."""
    spec = importlib.util.find_spec("peft")
    if spec is None or not spec.origin:
        raise UserError("config.methods: PEFT is not installed; see environment.yml.")
    tree = ast.parse((Path(spec.origin).parent / "tuners" / "lora" / "config.py").read_text(encoding="utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "LoraConfig")
    return {node.target.id for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}


def _check_cells(config: Config) -> None:
    for number, cell in enumerate(config["sweep"]["cells"]):
        place = f"config.sweep.cells[{number}]"
        definition = method_definition(config, cell["method"], place)
        quantizers.find(cell["quant"], f"{place}.quant")
        if reason := methods.refusal(definition["init"], cell["quant"]):
            raise UserError(f"{place}: ({cell['method']}, {cell['quant']}) makes no sense: {reason}.")
        methods.options(definition["init"], cell["quant"], definition["options"], f"config.methods.{cell['method']}")


def _check_studies(config: Config) -> None:
    studies = config["studies"]
    for name in studies["models"]:
        if name not in config["models"]:
            raise unknown("model", name, config["models"], "config.studies.models")
    for name in studies["methods"]:
        if "alternations" not in methods.load(name, "config.studies.methods").QUANTIZED_OPTIONS:
            raise UserError(f"config.studies.methods: {name} does not alternate with quantization.")
    quantized = [name for name in quantizers.names() if name != "none"]
    asked = (("quants", studies["quants"], quantized), ("blocks", studies["blocks"], quantizers.in_blocks()))
    for key, names, choices in asked:
        for name in names:
            if name not in choices:
                raise unknown("quant", name, choices, f"config.studies.{key}")
    if gptq := studies["gptq"]:
        for key, name in (("calibration", gptq["calibration"]), ("text", gptq["text"])):
            if name not in config["datasets"]:
                raise unknown("dataset", name, config["datasets"], f"config.studies.gptq.{key}")
    for name in studies["svd"]:
        methods.check_svd(name, "config.studies.svd")


def method_definition(config: Config, name: str, place: str) -> NamedMethod:
    """A named method: from `methods:`, or the file of that name with its defaults."""
    written = config["methods"].get(name)
    if written is None:
        if name not in methods.names():
            raise unknown("method", name, set(methods.names()) | set(config["methods"]), f"{place}.method")
        written = WrittenMethod(init=name)
    return {"options": {}, "lora": {}, **written}
