"""Which fields of PEFT's LoraConfig a method of the config may set, and why it may not set the others.

A field may be set where it takes effect in training, and what is merged and scored is what was trained: a test holds
each to that, and the two lists to the installed PEFT. Imports no PEFT, which would import torch.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from pissa_repro.model.peft_words import ALL_LINEAR, PATTERNS
from pissa_repro.plan.reading import short
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.specs import StartFields, Targets, TrainedWhole

Check = Callable[[Any], bool]


class Field(NamedTuple):
    """A field: what it may be in words and as a check, what it does here, and which key of config.train it replaces.

    nothing: PEFT's default, with which the field does nothing; only for a field that replaces no key.
    """

    wanted: str
    good: Check
    what: str
    replaces: str | None = None
    nothing: Any = None


def _number(low: float, high: float) -> Check:
    """A number above `low`, up to `high`."""
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low < value <= high


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _each(one: Check) -> Check:
    """A list of at least one such value, none of them twice."""
    return lambda value: isinstance(value, list) and value != [] and all(map(one, value)) and _once(value)


def _once(values: list[Any]) -> bool:
    return all(value not in values[:number] for number, value in enumerate(values))


def _name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _expression(value: Any) -> bool:
    """A regular expression."""
    try:
        return _name(value) and re.compile(value) is not None
    except (re.error, OverflowError, RecursionError):
        return False


def _either(*checks: Check) -> Check:
    return lambda value: any(check(value) for check in checks)


def _patterns(one: Check) -> Check:
    """A mapping from regular expressions."""
    return lambda value: isinstance(value, dict) and all(map(_expression, value)) and all(map(one, value.values()))


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


ALPHA, RANK = _number(0, 1_000_000), _number(0, 65_536)
NAMES = "a list of names, or a regular expression that a whole name must match"

ALLOWED = {
    "target_modules": Field(
        f"{NAMES}, or '{ALL_LINEAR}'",
        _either(_each(_name), _expression),
        f"which modules get factors; `{ALL_LINEAR}`: every linear layer but the output layer",
        replaces="target_modules",
    ),
    "exclude_modules": Field(NAMES, _either(_each(_name), _expression), "which of them get none"),
    "layers_to_transform": Field(
        "a number of a layer or a list of them, from 0",
        _either(*((lambda value: _is_int(value) and value >= 0), _each(lambda value: _is_int(value) and value >= 0))),
        "only layers of these numbers; with a list of target modules",
    ),
    "layers_pattern": Field(
        "a name of the list of layers, or a list of names, such as 'layers' or 'h'",
        _either(_each(_expression), _expression),
        "where the number of a layer stands in a name; with `layers_to_transform`",
    ),
    "rank_pattern": Field(
        "a mapping from regular expressions to ranks",
        _patterns(lambda value: _is_int(value) and RANK(value)),
        "another rank for modules whose name ends in a match; the first match holds. The others have the sweep's",
        nothing={},
    ),
    "lora_alpha": Field(
        "a number above 0, or 'rank'",
        _either(ALPHA, lambda value: value == "rank"),
        "alpha; `rank`: each module's own rank",
        replaces="alpha",
    ),
    "alpha_pattern": Field(
        "a mapping from regular expressions to numbers above 0",
        _patterns(ALPHA),
        "another alpha, as `rank_pattern`",
        nothing={},
    ),
    "use_rslora": Field("true or false", _is_bool, "the scaling is alpha / √r (arXiv 2312.03732)", replaces="rslora"),
    "lora_dropout": Field(
        "a number from 0, below 1",
        lambda value: _number(-1, 1)(value) and 0 <= value < 1,
        "dropout of what goes into A; with PiSSA and its like also of parts of W, and a warning says so",
        replaces="dropout",
    ),
    "use_dora": Field(
        "true or false",
        _is_bool,
        "DoRA (arXiv 2402.09353): the magnitude of each output trains beside A and B, and is merged",
        nothing=False,
    ),
    "bias": Field(
        "'none', 'all' or 'lora_only'",
        lambda value: value in ("none", "all", "lora_only"),
        "which biases train too: every one, or those of modules with factors; on a base in float32",
        nothing="none",
    ),
    "modules_to_save": Field(
        "a list of names",
        _each(_name),
        "modules that train whole beside the factors, such as a norm; on a base in float32",
    ),
}
WHOLE = ("bias", "modules_to_save")  # parameters of the base that train
NARROWING = ("exclude_modules", "layers_to_transform", "layers_pattern")
OF_START = (*NARROWING, *PATTERNS)  # they decide the start, beside those that replace a key

RANDOM_LOSS = "its noise is drawn anew when a training resumes, and its loss terms are not part of the training"

# A field, and what decides it instead or why it cannot be set. A second place for what a cell's name or its start
# says would train another cell under that name, or be ignored.
REFUSED = {
    "r": "config.sweep.ranks decides it; 'rank_pattern' gives some modules another one",
    **dict.fromkeys(("init_lora_weights", "eva_config", "corda_config", "lora_ga_config"), "'init' decides it"),
    "loftq_config": "'init: loftq' is the method, 'alternations' its iterations, and the cell's 'quant' its bits",
    "lora_bias": "merging needs a bias in the layer for it, and layers such as Llama's have none",
    "trainable_token_indices": "the tokenizer stays as it is, so that no token has to be learnt anew",
    "target_parameters": "its factors are of parameters that no module owns (stacked experts), and these have no start",
    "ensure_weight_tying": "a weight that is used twice is not trained here, nor does it get factors",
    "use_bdlora": "its factors are blocks, not the A and B of the start",
    "arrow_config": "it routes between several trained adapters, and a cell has one",
    "kasa_config": "it changes the base, and the start belongs to the base as it is",
    "monteclora_config": RANDOM_LOSS,
    "velora_config": "its gradients depend on the micro-batch, and on 4-bit bases PEFT rounds what it keeps to zero",
    "alora_invocation_tokens": "it adapts a part of the tokens, which cannot be merged",
    "layer_replication": "it makes another model, which is not the one that is merged and scored",
    "fan_in_fan_out": "the layer decides it",
    **dict.fromkeys(("use_qalora", "qalora_group_size"), "PEFT has it for GPTQ layers only; here it would do nothing"),
    **dict.fromkeys(
        ("megatron_config", "megatron_core"),
        "Megatron's parallel layers are not used",
    ),
    "runtime_config": "it says how PEFT computes a start, and the start is there already",
    **dict.fromkeys(("task_type", "inference_mode", "peft_type", "auto_mapping"), "the training decides it"),
    **dict.fromkeys(
        ("base_model_name_or_path", "revision", "peft_version"), "it is written into the adapter by itself"
    ),
}


def acting(given: dict[str, Any], place: str) -> dict[str, Any]:
    """The given fields, without those that do nothing: they are the same method.

    Raises UserError for a field that may not be set, with the reason, and for a value that it cannot have.
    """
    for key in given:
        if key in REFUSED:
            raise UserError(f"{place}: '{key}' is not set here: {REFUSED[key]}. Choices: {', '.join(ALLOWED)}.")
        if key not in ALLOWED:
            near = difflib.get_close_matches(key, [*ALLOWED, *REFUSED], n=1)
            instead = f" For '{near[0]}': {REFUSED[near[0]]}." if near and near[0] in REFUSED else ""
            raise UserError(f"{unknown('LoraConfig field', key, ALLOWED, place)}{instead}")
    fields = {key: value for key, value in given.items() if not _idle(ALLOWED[key], value)}
    for key, value in fields.items():
        if not ALLOWED[key].good(value):
            raise UserError(f"{place}: '{key}' is {short(value)}; it must be {ALLOWED[key].wanted}.")
    if "layers_pattern" in fields and "layers_to_transform" not in fields:
        raise UserError(f"{place}: 'layers_pattern' needs 'layers_to_transform': it says where these numbers stand.")
    if "layers_to_transform" in fields and isinstance(fields.get("target_modules"), str):
        raise UserError(
            f"{place}: 'layers_to_transform' needs a list of target modules; an expression can name layers."
        )
    return fields


def _idle(field: Field, value: Any) -> bool:
    """Whether a field does nothing: at PEFT's default; for a mapping also null, which PEFT takes for an empty one."""
    return field.replaces is None and (value == field.nothing or (value is None and field.nothing == {}))


def replaced(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of config.train that a method's fields replace, with their values."""
    return {key: value for field, value in fields.items() if (key := ALLOWED[field].replaces)}


def of_start(fields: Mapping[str, Any], alpha_is_rank: bool) -> StartFields:
    """The other fields that decide a start. Patterns as pairs: their order counts, and a spec sorts its keys.

    alpha_is_rank: then a module with a rank of its own has it for alpha too, where no pattern gives it another.
    """
    found = {key: value for key, value in fields.items() if key in NARROWING}
    patterns = {key: dict(fields[key]) for key in PATTERNS if key in fields}
    if alpha_is_rank and "rank_pattern" in patterns:
        alphas = patterns.setdefault("alpha_pattern", {})
        alphas |= {key: rank for key, rank in patterns["rank_pattern"].items() if key not in alphas}
    pairs = {key: [[name, value] for name, value in pattern.items()] for key, pattern in patterns.items()}
    return cast("StartFields", found | pairs)


def targets(fields: Mapping[str, Any], train: Mapping[str, Any]) -> Targets:
    """Which modules get factors by the settings of a cell; `lora` only where fields narrow them or have patterns."""
    named = train["target_modules"]
    found: Targets = {"target_modules": named if isinstance(named, str) else list(named)}
    more = of_start(fields, train["alpha"] == "rank")
    return {**found, "lora": more} if more else found


def whole(fields: Mapping[str, Any]) -> TrainedWhole:
    """The fields by which parameters of the base train."""
    return cast("TrainedWhole", {key: value for key, value in fields.items() if key in WHOLE})


def check_dtype(fields: Mapping[str, Any], dtype: str, place: str) -> None:
    """Raise UserError where parameters of the base train and its dtype is another than theirs."""
    if whole(fields) and dtype != "float32":
        raise UserError(
            f"{place}: {' and '.join(whole(fields))} on a base in {dtype}: what trains is float32, and layers of that "
            "base take no other dtype. Choices: dtype float32 for this method (config.train.dtype, config.overrides)."
        )


def in_training(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that act beside the start: LoraConfig gets them as they are."""
    return {key: value for key, value in fields.items() if key not in OF_START and not ALLOWED[key].replaces}
