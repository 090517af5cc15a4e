"""Read and check a config. A wrong one dies here, before any job, with the place named."""

import itertools
import math
import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import jsonschema

from pissa_repro import methods, quantizers, tasks
from pissa_repro.plan import adopted, bases, classes, datasets, elsewhere, lora, statistics, validation
from pissa_repro.plan.layers import replaced_by, settled
from pissa_repro.plan.parts import parts, trained_on
from pissa_repro.plan.reading import merge, plain, read, short
from pissa_repro.plan.sections import Config, NamedMethod, WrittenMethod
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.processes import FULL

Section = Literal["models", "datasets", "tasks"]  # those that a sweep takes names of
SECTIONS: tuple[Section, ...] = ("models", "datasets", "tasks")
ROOT = Path(__file__).resolve().parents[2]

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

# Settings that a spec holds only at another value: specs from before these existed are those of the same training.
UNWRITTEN = {"prompt": "alpaca", "loss": "response", "tf32": False}
SOURCES = ("path", "hub", "revision", "file", "of", "share", "without")  # keys that say where something is from
NUMBER = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9]*)?([eE][-+]?[0-9]+)?")
SCORING = {"cells_per_engine": 8}
MOST_SCORES = 100_000  # of a sweep, unless it says `max_scores`
MOST_POINTS = 1_000  # of a grid of a study: its spec goes through one command line

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
def validator() -> jsonschema.Draft202012Validator:
    """The JSON Schema, config/schema.yaml."""
    return jsonschema.Draft202012Validator(read(ROOT / "config" / "schema.yaml"))


def load(*paths: str | Path) -> Config:
    """Read config files as Snakemake does: later files win, mappings merge, lists are replaced; and plan/layers.py."""
    merged: dict[str, Any] = {}
    files = [read(path) for path in paths]
    replaced = replaced_by(files)  # before the merge, which writes into the first one
    for file in files:
        merge(merged, file)
    return check(settled(merged, replaced))


def check(given: Mapping[str, Any]) -> Config:
    """The config as plain types with defaults filled in. Raises UserError where it makes no sense."""
    raw = plain(given)
    _check_schema(raw)
    raw.setdefault("methods", {})
    raw.setdefault("overrides", [])
    raw["train"] = DEFAULTS | UNWRITTEN | raw["train"]
    raw["scoring"] = SCORING | raw.get("scoring", {})
    raw["studies"] = STUDIES | {"models": raw["sweep"]["models"]} | raw.get("studies", {})
    config = cast("Config", raw)  # what the schema has checked, and the defaults
    _check_names(config)
    validation.check(config)
    _check_sharding(config)
    _check_methods(config)
    _check_cells(config)
    classes.check(config)
    adopted.check(config)
    bases.check(config)
    elsewhere.check(config)
    _check_studies(config)
    _check_size(config)
    return config


def _check_schema(config: dict[str, Any]) -> None:
    error = jsonschema.exceptions.best_match(validator().iter_errors(config))
    if error is None:
        return
    place = "config." + ".".join(str(part) for part in error.absolute_path) if error.absolute_path else "config"
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        stranger = next(key for key in error.instance if key not in known)
        raise unknown("key", stranger, known, place)
    if error.validator == "oneOf" and "required" in error.validator_value[0]:
        part = ", or 'of' with 'share' or 'without'" if error.absolute_path[0] == "datasets" else ""
        found = ", ".join(key for key in error.instance if key in SOURCES) or "none of these"
        either = "give either 'path', or 'hub' with 'revision' (and 'file' for a dataset)"
        raise UserError(f"{place}: {either}{part}. It has {found}.")
    reasons = " / ".join(map(_reason, error.context)) if error.validator == "oneOf" else _reason(error)
    raise UserError(f"{place}: {reasons}.{_hint(error)}")


def _reason(error: jsonschema.ValidationError) -> str:
    """What a value is not, in the schema's words where it has some."""
    if error.validator == "pattern":
        words = cast("dict[str, Any]", error.schema)["description"]
        return f"{short(error.instance)} is not {words}"
    return error.message.replace(repr(error.instance), short(error.instance))


def _hint(error: jsonschema.ValidationError) -> str:
    """What to write where YAML has read another type than the one that is wanted."""
    types = [one.validator_value for one in (error, *(error.context or ())) if one.validator == "type"]
    wanted = {kind for one in types for kind in ([one] if isinstance(one, str) else one)}
    if isinstance(error.instance, str) and wanted & {"integer", "number"} and NUMBER.fullmatch(error.instance):
        return " It is a text: YAML reads 1e-3 so, and 1.0e-3 as a number; in quotes or the braces of --config all are."
    if not isinstance(error.instance, str | list | dict) and "string" in wanted:
        return " YAML reads no, off, on, yes, null and numbers as such: put a text into quotes."
    return ""


def _check_sharding(config: Config) -> None:
    for name, model in config["models"].items():
        if model.get("sharding") == FULL and (cards := model.get("gpus", 0)) < 2:
            raise UserError(
                f"config.models.{name}.sharding: full shares the weights among the cards of a training, and gpus is "
                f"{cards}. Give it 2 or more, or leave sharding out."
            )


def _check_names(config: Config) -> None:
    known_methods = set(methods.names()) | set(config["methods"])
    section: Section
    for place, swept in parts(config).items():
        for section in SECTIONS:
            for name in swept[section]:
                if name not in config[section]:
                    raise unknown(section[:-1], name, config[section], f"{place}.{section}")
    sweep = config["sweep"]
    if (rate := sweep.get("common_rate")) is not None and rate not in sweep["learning_rates"]:
        rates = ", ".join(f"{one:g}" for one in sweep["learning_rates"])
        raise UserError(f"config.sweep.common_rate: {rate:g} is not among the swept learning_rates: {rates}.")
    for name in config["datasets"]:
        datasets.source(config["datasets"], name)
    for name in trained_on(config):
        if datasets.trained_on(config["datasets"], name) == "response":
            datasets.need_fields(config["datasets"], name, ("prompt", "response"), "training")
    for name, task in config["tasks"].items():
        if task["dataset"] not in config["datasets"]:
            raise unknown("dataset", task["dataset"], config["datasets"], f"config.tasks.{name}.dataset")
        if task["task"] not in tasks.names():
            raise unknown("task file", task["task"], tasks.names(), f"config.tasks.{name}.task")
        datasets.need_fields(
            config["datasets"], task["dataset"], tasks.metadata(task["task"])["fields"], f"task '{name}'"
        )
    for number, override in enumerate(config["overrides"]):
        place = f"config.overrides[{number}].where"
        choices: dict[str, Collection[str]] = {"model": config["models"], "dataset": config["datasets"]}
        choices |= {"method": known_methods, "quant": quantizers.names()}
        for key, value in override["where"].items():
            if value not in choices[key]:
                raise unknown(key, value, choices[key], f"{place}.{key}")


def _check_methods(config: Config) -> None:
    for name, method in config["methods"].items():
        place, init = f"config.methods.{name}", method["init"]
        methods.load(init, f"{place}.init")
        methods.options(init, "none", method.get("options", {}), place)
        if "lora" in method:
            method["lora"] = lora.acting(method["lora"], f"{place}.lora")
        if method.get("lora") and not methods.has_factors(init):
            raise UserError(f"{place}.lora: {init} trains every weight and has no adapter; leave 'lora' out.")
        statistics.check(config, method_definition(config, name, place), place)
        _check_decided_once(config, name, method.get("lora", {}))


def _check_decided_once(config: Config, name: str, fields: dict[str, Any]) -> None:
    """Refuse a method's field and an override that set the same for a cell: neither is told to hold."""
    settings = lora.replaced(fields)
    for swept, (number, override) in itertools.product(parts(config).values(), enumerate(config["overrides"])):
        quants = [cell["quant"] for cell in swept["cells"] if cell["method"] == name]
        here = {"model": swept["models"], "dataset": swept["datasets"], "method": [name], "quant": quants}
        twice = sorted(override["set"].keys() & settings.keys())
        if quants and twice and all(value in here[key] for key, value in override["where"].items()):
            raise UserError(
                f"config.overrides[{number}].set.{twice[0]}: config.methods.{name}.lora decides it for '{name}'. Leave "
                "one of them out, or say under 'where' which other cells the override is for."
            )


def _check_cells(config: Config) -> None:
    every = [(f"{place}.cells[{n}]", c, s) for place, s in parts(config).items() for n, c in enumerate(s["cells"])]
    for place, cell, swept in every:
        definition = method_definition(config, cell["method"], place)
        quantizers.find(cell["quant"], f"{place}.quant")
        if reason := methods.refusal(definition["init"], cell["quant"]):
            raise UserError(f"{place}: ({cell['method']}, {cell['quant']}) makes no sense: {reason}.")
        methods.options(definition["init"], cell["quant"], definition["options"], f"config.methods.{cell['method']}")
        for data in swept["datasets"]:
            if name := statistics.data(definition, data):
                place = f"config.methods.{cell['method']}.statistics.rows"
                statistics.check_rows(config, statistics.drawn(definition), name, place, definition["init"])


def _check_studies(config: Config) -> None:
    studies = config["studies"]
    for name in studies["models"]:
        if name not in config["models"]:
            raise unknown("model", name, config["models"], "config.studies.models")
    for name in studies["gradients"]["models"] if "gradients" in studies else ():
        if name not in config["models"]:
            raise unknown("model", name, config["models"], "config.studies.gradients.models")
    for name in studies["methods"]:
        method = methods.load(name, "config.studies.methods")
        if "alternations" not in method.QUANTIZED_OPTIONS:
            raise UserError(f"config.studies.methods: {name} does not alternate with quantization.")
        if method.STATISTICS or methods.redistributes(name, method.OPTIONS):
            raise UserError(f"config.studies.methods: {name} needs more than one weight, and studies read no more.")
    quantized = [name for name in quantizers.names() if name != "none"]
    asked = (("quants", studies["quants"], quantized), ("blocks", studies["blocks"], quantizers.in_blocks()))
    for key, names, choices in asked:
        for name in names:
            if name not in choices:
                raise unknown("quant", name, choices, f"config.studies.{key}")
    statistics.check_errors(config)
    if gptq := studies["gptq"]:
        for key, name in (("calibration", gptq["calibration"]), ("text", gptq["text"])):
            if name not in config["datasets"]:
                raise unknown("dataset", name, config["datasets"], f"config.studies.gptq.{key}")
            datasets.need_fields(config["datasets"], name, ("prompt", "response"), "studies.gptq")
    for name in studies["svd"]:
        methods.check_svd(name, "config.studies.svd")


def _check_size(config: Config) -> None:
    """Refuse a product of lists that nobody means: its plan alone would take minutes and gigabytes."""
    swept, studies = config["sweep"], config["studies"]
    axes = ("models", "datasets", "cells", "ranks", "learning_rates", "seeds", "tasks")
    sizes = [[len(part[axis]) for axis in axes] for part in parts(config).values()]  # type: ignore[literal-required]
    scores = sum(map(math.prod, sizes))
    most = swept.get("max_scores", MOST_SCORES)
    if scores > most:
        raise UserError(
            f"config.sweep: its lists multiply to {scores:,} scores, more than {most:,}. Shorten a list, or raise "
            "config.sweep.max_scores."
        )
    counts = {key: len(studies[key]) for key in ("ranks", "quants", "blocks", "alternations", "many_alternations")}
    points = len(studies["methods"]) * max(
        counts["ranks"] * counts["alternations"],
        counts["quants"] * counts["alternations"],
        counts["many_alternations"],
        counts["blocks"],
    )
    if points > MOST_POINTS:
        raise UserError(
            f"config.studies: its lists multiply to {points:,} points a model; {MOST_POINTS:,} is the most."
        )


def written(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The training settings that a spec holds: all but those of UNWRITTEN at their values."""
    return {key: value for key, value in settings.items() if key not in UNWRITTEN or value != UNWRITTEN[key]}


def method_definition(config: Config, name: str, place: str) -> NamedMethod:
    """A named method: from `methods:`, or the file of that name with its defaults."""
    written = config["methods"].get(name)
    if written is None:
        if name not in methods.names():
            raise unknown("method", name, set(methods.names()) | set(config["methods"]), f"{place}.method")
        written = WrittenMethod(init=name)
    return {"options": {}, "lora": {}, **written}
