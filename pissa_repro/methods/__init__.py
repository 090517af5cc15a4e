"""The methods. One is one file of this folder, held to `Method` (_contract.py, docs/guides/add_a_baseline.md).

A method is one function from a weight matrix to small factors:

    base  = quantize(W - s * offset_B @ offset_A)      frozen
    model = base + s * B @ C @ A                       the parts A, B and C train, or those that the file names

Nothing here knows of a model. The workflow imports these files for every dry run, so they import torch
only inside functions.
"""

import math
import re
from types import ModuleType
from typing import Any

from pissa_repro.methods._contract import KINDS, Matrix, Method, Modules, Parts, Setting, Start, Training
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.plugins import Room

__all__ = ["Matrix", "Method", "Modules", "Parts", "Setting", "Start", "Training"]
SVD = "fast|exact|niter_(0|[1-9][0-9]{0,2})"  # the solvers of linalg/spectrum.py, for the option `svd`
MOST = 1_000  # of an option that is a whole number


def _complaint(module: ModuleType) -> str | None:
    if getattr(module, "FACTORS", True) != hasattr(module, "start"):
        return "a method has a function start(weight, setting), or says FACTORS = False."
    for kind, defaults in getattr(module, "STATISTICS", {}).items():
        if kind not in KINDS:
            return f"STATISTICS asks for {kind!r}. Choices: {', '.join(KINDS)}."
        whole = {key: type(value) is int and value >= 0 for key, value in defaults.items()}
        if whole not in ({"rows": True}, {"rows": True, "seed": True}) or not defaults["rows"]:
            return f"STATISTICS gives {kind} {dict(defaults)!r}; it needs 'rows', from 1, and may have 'seed', from 0."
    return None


PLUGINS = Room("pissa_repro.methods", "method", Method, _complaint)
names, load = PLUGINS.names, PLUGINS.load


def redistributes(name: str) -> bool:
    """Whether the method gives modules ranks of their own: it has a `summary` for them."""
    return getattr(load(name).summary, "__func__", None) is not Method.summary


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
    return {key: given.get(key, default) for key, default in (plain if quant == "none" else everywhere).items()}


def training_options(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of the method's training: its defaults, changed by the config, which `options` has checked."""
    return {key: given.get(key, default) for key, default in load(name).TRAINING_OPTIONS.items()}


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
