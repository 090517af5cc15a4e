"""The cells behind one published number: which number is meant, and the part of a config that sweeps them alone."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pissa_repro import methods
from pissa_repro.paper.published import METHODS, TRAINED_ON, Published, entries
from pissa_repro.plan.config import method_definition
from pissa_repro.plan.labels import paper_method
from pissa_repro.plan.sections import Config
from pissa_repro.runtime.errors import UserError, unknown

TABLE = re.compile(r"v4 Table (\d+)")


def chosen(table: str, model: str, method: str, quant: str | None, benchmark: str) -> Published:
    """The number of a table of v4, of a model, a method and a benchmark; method: our name, or the paper's word.

    quant None: the only one of the method in the table, nf4 for a word like qpissa, else none. Raises UserError, with
    the choices that are left, for what the table does not have.
    """
    left = list(entries())
    tables = {found[1] for entry in left if (found := TABLE.fullmatch(entry.paper_ref))}
    number = _known("table", table.lower().removeprefix("table").strip(), tables, "--table")
    left = [entry for entry in left if entry.paper_ref == f"v4 Table {number}"]
    left = _kept(left, "model", model)
    name, quantized = METHODS.get(method, (method, False))
    left = _kept(left, "method", name)
    quants = {entry.quant for entry in left}
    left = _kept(left, "quant", quant or ("nf4" if quantized else next(iter(quants)) if len(quants) == 1 else "none"))
    return _kept(left, "benchmark", benchmark)[0]


def _kept(left: list[Published], kind: str, word: str) -> list[Published]:
    """Those entries that have a word; there is one. Raises UserError with the choices."""
    _known(kind, word, {getattr(entry, kind) for entry in left}, f"--{kind} ({left[0].paper_ref})")
    return [entry for entry in left if getattr(entry, kind) == word]


def _known(kind: str, word: str, choices: Iterable[str], place: str) -> str:
    if word not in choices:
        raise unknown(kind, word, choices, place)
    return word


def narrowed(config: Config, entry: Published) -> dict[str, list[Any]]:
    """The keys of a config's sweep that leave the cells and the task of a published number.

    Ranks, rates and seeds stay. Of several definitions that are the paper's, the last one counts. Raises UserError for
    what no definition is.
    """
    swept: dict[str, list[Any]] = {
        "models": [_linked("models", config["models"], entry.model)],
        "datasets": [_linked("datasets", config["datasets"], TRAINED_ON[entry.benchmark])],
        "cells": [{"method": _method(config, entry.method), "quant": entry.quant}],
        "tasks": [_linked("tasks", config["tasks"], entry.benchmark)],
    }
    return swept | {axis: [] for axis in ("adopted", "bases") if config["sweep"].get(axis)}


def _linked(section: str, definitions: Mapping[str, Any], name: str) -> str:
    """The definition of a section that says `paper: name`."""
    links = {definition["paper"]: key for key, definition in definitions.items() if "paper" in definition}
    if name not in links:
        raise UserError(
            f"config.{section}: none says `paper: {name}`, which the published number is of. Lay a config over it that "
            f"does. Choices: {', '.join(sorted(links)) or '(none)'}."
        )
    return links[name]


def _method(config: Config, name: str) -> str:
    """The name in a config of a method in the words of published.py."""
    for own in (*config["methods"], *methods.names()):
        if paper_method(method_definition(config, own, "config.methods")) == name:
            return own
    init, _, field = name.partition("+")
    raise UserError(
        f"config.methods: none is {name}. Lay a config over it with `methods: {{{init}-{field}: {{init: {init}, lora: "
        f"{{use_{field}: true}}}}}}`."
    )
