"""Case 15: names of a config become parts of file names and of commands, so only harmless ones are taken."""

import copy
import re

import pytest
import yaml
from stage import says
from swept import GOOD, changed, components, names_of

from pissa_repro.plan import config
from pissa_repro.plan.batches import Batches
from pissa_repro.plan.checked import checked

SCHEMA = yaml.safe_load((config.ROOT / "config" / "schema.yaml").read_text(encoding="utf-8"))
SECTIONS = ("models", "datasets", "methods", "tasks")
UNSAFE = [
    "..", ".", "a/b", "/a", "$(touch X)", "`touch X`", "a b", "a;b", "a\n", "-n", "~", "a'b", 'a"b', "{a}", "*", "é",
    "", "a" * 65, "a\\b", "٣",
]  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("name", UNSAFE, ids=repr)
def test_a_name_that_is_no_safe_file_name_is_refused(section, name):
    """Case 15: in every section, by the schema's one pattern, also where nothing sweeps it."""
    definition = copy.deepcopy(next(iter(GOOD[section].values())))
    given = changed(section, GOOD[section] | {name: definition})
    says(lambda: checked(given), f"config.{section}", "is not a name", "64 characters at most")


@pytest.mark.parametrize("section", ("models", "datasets", "methods", "tasks"))
def test_the_longest_names_fit_into_file_names(section):
    """Case 15: with every name at its limit, and the longest numbers, no part of a path comes near 255 bytes."""
    long = {part: f"{part}-".ljust(64, "x") for part in SECTIONS}
    given = copy.deepcopy(GOOD)
    for part in SECTIONS:
        given[part] = {long[part]: next(iter(given[part].values()))}
    given["tasks"][long["tasks"]]["dataset"] = long["datasets"]
    given["overrides"] = []
    given["sweep"] |= {
        "models": [long["models"]], "datasets": [long["datasets"]], "tasks": [long["tasks"]], "ranks": [65536],
        "cells": [{"method": long["methods"], "quant": "nf4-b128-dq"}],
        "seeds": [4294967295], "learning_rates": [1.2345678901234567e-300],
    }  # fmt: skip
    sweep, batches = checked(given)
    longest = max(map(len, components(sweep, batches)))
    assert 128 < longest + len(".samples.jsonl") < 200
    assert long[section] in " ".join(names_of(sweep, batches))
    given[section] = {f"{long[section]}x": next(iter(given[section].values()))}
    says(lambda: checked(given), f"config.{section}", "64 characters at most")


def test_every_definition_of_the_schema_is_used():
    """Case 15: the pattern of names stood there, and nothing referred to it."""
    used = set(re.findall(r'"#/\$defs/(\w+)"', (config.ROOT / "config" / "schema.yaml").read_text(encoding="utf-8")))
    assert used == SCHEMA["$defs"].keys()


def patterns(part):
    if isinstance(part, dict):
        yield from [part] if "pattern" in part else []
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        yield from patterns(inner)


def test_every_pattern_has_words_and_ends_where_the_text_ends():
    """Case 15: `$` lets a newline pass."""
    found = list(patterns(SCHEMA))
    assert len(found) >= 4
    assert all(one["description"] and one["pattern"].endswith(r"\Z") for one in found)


@pytest.mark.parametrize("file", ["/etc/passwd", "../x.json", "a/../../x", "..", "a\nb"])
def test_a_file_of_a_dataset_stays_inside_its_repository(file):
    """Case 15: what `file` names is looked for below the downloaded repository."""
    given = {"hub": "a/b", "revision": "main", "file": file, "fields": GOOD["datasets"]["sums"]["fields"]}
    says(lambda: checked(changed("datasets.sums", given)), "config.datasets.sums.file", "inside the repository")


@pytest.mark.parametrize("hub", ["../b", "a/..", "a/b/c", "a b/c", "a/$(x)", "a/b\n", "-a/b"])
def test_a_hub_id_is_an_owner_and_a_name(hub):
    """Case 15: it becomes a folder of the cache and a part of an address."""
    given = changed("models.tiny", {"hub": hub, "revision": "main"})
    says(lambda: checked(given), "config.models.tiny.hub", "owner/name")


@pytest.mark.parametrize("place", ["models.tiny.path", "models.tiny.display", "datasets.sums.path", "overrides.0.why"])
@pytest.mark.parametrize("text", ["a\0b", "a\x1b[2Jb", "a\ud800b", "a\u2028b", "x" * 5000], ids=ascii)
def test_a_text_that_cannot_be_shown_is_refused(place, text):
    """Case 15: NUL ends a path, an escape rewrites a terminal, and a lone surrogate cannot be written."""
    says(lambda: checked(changed(place, text)), f"config.{place}", "character")


def test_a_reason_may_have_several_lines_and_a_name_in_a_table_may_not():
    """Case 15: YAML's `>` ends in a newline."""
    sweep, batches = checked(changed("overrides.0.why", "A reason that is\ntwo lines long.\n"))
    assert isinstance(batches, Batches) and len(sweep.cells) == 1
    says(lambda: checked(changed("models.tiny.display", "two\nlines")), "config.models.tiny.display", "one line")
