"""Whether what the config links to the paper is that: the model, the training data and the test rows of a cell.

reference/identities.yaml holds what is known. Hub id and revision decide, or the hash of the fetched rows; a
`paper:` key alone is a declaration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from pissa_repro.plan.cells import Cell
from pissa_repro.plan.config import ROOT
from pissa_repro.plan.sweep import Sweep

PATH = ROOT / "reference" / "identities.yaml"
CHECKED = ("file", "fields", "response_format")  # that say which rows of a hub's repository, and what of them


@dataclass(frozen=True)
class Identity:
    """What is known to be something else, and what is known by the config's word only; both empty: identified."""

    other: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()

    def __add__(self, more: "Identity") -> "Identity":
        return Identity(self.other + more.other, self.declared + more.declared)


@cache
def known(section: str) -> dict[str, dict[str, Any]]:
    """A section of reference/identities.yaml: what is known, by the paper's name."""
    return yaml.safe_load(PATH.read_text(encoding="utf-8"))[section]


def of_cell(sweep: Sweep, cell: Cell, task: str, hashes: Mapping[str, str]) -> Identity:
    """Identity of a linked cell's model, training data and test rows. hashes: of the fetched rows, by dataset."""
    data, test = sweep.config["datasets"], sweep.config["tasks"][task]
    tests = identify("tests", test["paper"], data[test["dataset"]], hashes.get(test["dataset"]))
    return of_training(sweep, cell, hashes) + tests


def of_training(sweep: Sweep, cell: Cell, hashes: Mapping[str, str]) -> Identity:
    """The same of what decides its loss: the model and the training data."""
    data = sweep.config["datasets"][cell.data]
    return of_model(sweep, cell.model) + identify("training", data["paper"], data, hashes.get(cell.data))


def of_model(sweep: Sweep, model: str) -> Identity:
    """Identity of a model that the config links to the paper."""
    definition = sweep.config["models"][model]
    return identify("models", definition["paper"], definition, None)


def identify(section: str, name: str, definition: Mapping[str, Any], sha256: str | None) -> Identity:
    """Whether a definition of the config is what the paper calls by that name."""
    facts = known(section).get(name, {})
    hashes = facts.get("sha256", ())
    if sha256 in hashes:
        return Identity()
    if facts and definition.get("hub") == facts["hub"]:
        other = [
            f"{key} of {name} is {definition.get(key)}, not {facts.get(key)}"
            for key in CHECKED
            if definition.get(key) != facts.get(key)
        ]
        if other or definition["revision"] in facts["revisions"]:
            return Identity(other=tuple(other))
        return Identity(declared=(f"{name} at revision {definition['revision']}, which is not one known",))
    if sha256 and hashes:
        return Identity(other=(f"the rows of {name} are others (sha256 {sha256[:12]}, not {hashes[0][:12]})",))
    place = definition.get("hub") or definition.get("path") or f"a part of {definition['of']}"
    return Identity(declared=(f"{name} is {place}",))
