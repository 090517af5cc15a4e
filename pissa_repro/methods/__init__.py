"""The methods. One is one file of this folder, held to `Method` (_contract.py, docs/guides/add_a_method.md).

A method is one function from a weight matrix to small factors:

    base  = quantize(W - s * offset_B @ offset_A)      frozen
    model = base + s * B @ C @ A                       the parts A, B and C train, or those that the file names

Nothing here knows of a model. The workflow imports these files for every dry run, so they import torch
only inside functions.
"""

import math
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from pissa_repro.methods._contract import KINDS, PARTS, Matrix, Method, Modules, Parts, Setting, Start, Training, wide
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.plugins import Room, hold

__all__ = ["PARTS", "Matrix", "Method", "Modules", "Parts", "Setting", "Start", "Training", "wide"]
SVD = "fast|exact|niter_(0|[1-9][0-9]{0,2})"  # the solvers of linalg/spectrum.py, for the option `svd`
MOST = 1_000  # of an option that is a whole number


def _complaint(module: ModuleType) -> str | None:
    factors = getattr(module, "FACTORS", True)
    if factors != hasattr(module, "start"):
        return "a method has a function start(weight, setting), or says FACTORS = False."
    return _complaint_of_training(module, factors) or _complaint_of_options(module) or _complaint_of_statistics(module)


def _complaint_of_training(module: ModuleType, factors: bool) -> str | None:
    """What is wrong with TRAINING. Raises UserError for a hook with a name or parameters that there are not."""
    training = getattr(module, "TRAINING", Training)
    if not isinstance(training, type) or not issubclass(training, Training):
        return f"'TRAINING' is {training!r}; it must be a subclass of methods.Training."
    if unnamed := _unnamed(module, training):
        return (
            f"class {unnamed} is one of hooks, and nothing calls them: write `TRAINING = {unnamed}` below it. One that "
            "another file takes stands in __all__."
        )
    if training is Training:
        return "TRAINING_OPTIONS, and no TRAINING that reads them." if getattr(module, "TRAINING_OPTIONS", {}) else None
    if not factors:
        return "TRAINING is of factors, and FACTORS = False."
    classes = training.__mro__[: training.__mro__.index(Training)]
    names = [name for one in classes for name in vars(one) if not name.startswith("_")]
    hold(object.__new__(training), names, Training, "training", f"{_file(module)}: TRAINING")  # may need torch to make
    return None


def _file(module: ModuleType) -> str:
    return PLUGINS.file(module.__name__.rpartition(".")[2])


def _unnamed(module: ModuleType, training: type[Training]) -> str | None:
    """A class of hooks that the file makes and that TRAINING neither is nor extends; None where there is none."""
    for name, one in vars(module).items():
        made_here = isinstance(one, type) and issubclass(one, Training) and one.__module__ == module.__name__
        if made_here and not issubclass(training, one) and name not in getattr(module, "__all__", ()):
            return name
    return None


def _complaint_of_options(module: ModuleType) -> str | None:
    """What is wrong with the options of a file: one name twice, a word without choices, a default that cannot be."""
    choices = getattr(module, "CHOICES", {})
    kinds = [getattr(module, name, {}) for name in ("OPTIONS", "QUANTIZED_OPTIONS", "TRAINING_OPTIONS")]
    pairs = [pair for kind in kinds for pair in kind.items()]
    for key, value in pairs:
        if [name for name, _ in pairs].count(key) > 1:
            return f"option '{key}' is there twice."
        if isinstance(value, str) and key != "svd" and value not in choices.get(key, ()):
            return f"option '{key}' is {value!r}, which is not in CHOICES['{key}']."
        if not isinstance(value, str | bool | int | float):
            return f"option '{key}' is {value!r}; a default is a number, true or false, or a word of CHOICES."
        if wanted := None if isinstance(value, str) else _refusal(value, value):
            return f"option '{key}' is {value!r}; it must be {wanted}, a default too."
    if "svd" in (defaults := dict(pairs)):
        check_svd(defaults["svd"], f"{_file(module)}: OPTIONS")
    if unused := sorted(choices.keys() - defaults.keys()):
        return f"CHOICES of '{unused[0]}', which is no option."
    if hasattr(module, "refuse_options") and (refused := module.refuse_options(defaults)):
        return f"refuse_options refuses the file's own defaults {defaults}: {refused}."
    return None


def _complaint_of_statistics(module: ModuleType) -> str | None:
    """What is wrong with STATISTICS: a kind that there is not, or another default than rows and seed."""
    for kind, defaults in getattr(module, "STATISTICS", {}).items():
        if kind not in KINDS:
            return f"STATISTICS asks for {kind!r}. Choices: {', '.join(KINDS)}."
        whole = {key: type(value) is int and value >= 0 for key, value in defaults.items()}
        if whole not in ({"rows": True}, {"rows": True, "seed": True}) or not defaults["rows"]:
            return f"STATISTICS gives {kind} {dict(defaults)!r}; it needs 'rows', from 1, and may have 'seed', from 0."
    return None


PLUGINS = Room("pissa_repro.methods", "method", Method, _complaint)
names, load, version = PLUGINS.names, PLUGINS.load, PLUGINS.version


def redistributes(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the method gives modules ranks of their own with these options: it has a `summary` for them."""
    method = load(name)
    return getattr(method.summary, "__func__", None) is not Method.summary and method.redistributes(options)


def has_factors(name: str) -> bool:
    """Whether the method trains factors (False: it trains every weight)."""
    return load(name).FACTORS


def references() -> tuple[str, ...]:
    """The methods that others are compared with."""
    return tuple(name for name in names() if load(name).REFERENCE)


def refusal(name: str, quant: str) -> str | None:
    """Why the method makes no sense on this quantization, in the words of its own file; or None."""
    return load(name).refuse(quant)


def options(name: str, quant: str, given: dict[str, Any], place: str) -> dict[str, Any]:
    """The options of the method's start that apply on this base: its defaults, changed by the config.

    `given` may hold options of the training, too; these are checked and left out. Raises UserError for an option that
    the method does not have, and for a value that it cannot have.
    """
    method = load(name)
    plain = dict(method.OPTIONS)
    everywhere = plain | dict(method.QUANTIZED_OPTIONS)
    whole = everywhere | dict(method.TRAINING_OPTIONS)
    _check(name, whole, given, f"{place} ({name})")
    if complaint := method.refuse_options(whole | given):
        raise UserError(f"{place} ({name}): {complaint}.")
    return _filled(plain if quant == "none" else everywhere, given)


def training_options(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of the method's training: its defaults, changed by the config, which `options` has checked."""
    return _filled(load(name).TRAINING_OPTIONS, given)


def _filled(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults, changed. A whole number for another one is the same number: 1 and 1.0 are one spec."""
    values = {key: given.get(key, default) for key, default in defaults.items()}
    return {key: float(value) if isinstance(defaults[key], float) else value for key, value in values.items()}


def _check(name: str, defaults: dict[str, Any], given: dict[str, Any], place: str) -> None:
    """Raise UserError for an option that is not there, and for a value of another kind than its default."""
    for key, value in given.items():
        if key not in defaults:
            raise unknown("option", key, defaults, place)
        if key == "svd":
            check_svd(value, place)
        elif key in (choices := load(name).CHOICES):
            if value not in choices[key]:
                raise unknown(f"value of option '{key}'", value, choices[key], place)
        elif wanted := _refusal(value, defaults[key]):
            raise UserError(f"{place}: option '{key}' is {value!r}; it must be {wanted}.")


def _refusal(value: Any, default: Any) -> str | None:
    """What a value should be instead, in words; None where it is of its default's kind."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, float):
        return None if number and math.isfinite(value) and value >= 0 else "a number from 0"
    whole = number and isinstance(value, int) and 1 <= value <= MOST
    return None if whole else f"a whole number from 1 to {MOST:,}"


def check_svd(value: Any, place: str) -> None:
    """Raise UserError for what is not the name of a solver of linalg/spectrum.py."""
    if not re.fullmatch(SVD, str(value)):
        raise unknown("svd", value, ("fast", "exact", "niter_<0 to 999>"), place)


def display(name: str, quant: str) -> str:
    """The method's name in tables."""
    method = load(name)
    return method.DISPLAY if quant == "none" else method.QUANTIZED_DISPLAY
