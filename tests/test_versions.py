"""A plug-in whose VERSION is raised changes the specs that stand on it, and no others; at 1 no spec names it."""

from collections.abc import Iterator

import pytest

from pissa_repro import methods, quantizers, tasks
from pissa_repro.plan import studies, toy
from pissa_repro.plan.adopted import Adopted
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep, scoring
from pissa_repro.runtime.record import canonical

METHODS = ("lora", "pissa", "lora_plus", "lora_pro", "kasa", "pissa_adalora")
QUANTS = ("none", "nf4", "nf4-dq", "int8")
MINI = "gsm-mini"


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    raw = load(ROOT / "config/config.yaml")
    raw["methods"] |= {name: {"init": name, "options": {}, "lora": {}} for name in METHODS}
    cells = [{"method": method, "quant": quant} for method in METHODS for quant in QUANTS]
    raw["sweep"] |= {"cells": cells, "bases": list(QUANTS), "seeds": [0]}
    return Sweep(raw)


def specs(sweep: Sweep) -> Iterator[tuple[tuple[str, str, str], str]]:
    """All specs by stage, method (of what has none, "") and quant, canonical."""
    for cell in sweep.cells.values():
        made = {
            "train": sweep.train_spec(cell), "generate": sweep.generate_spec(cell, MINI),
            "evaluate": sweep.evaluate_spec(cell, MINI), "quant_error": sweep.quant_error_spec(cell),
            "updates": studies.updates_spec(sweep, cell),
        }  # fmt: skip
        yield from (((stage, cell.method, cell.quant), canonical(spec)) for stage, spec in made.items())
    for base in sweep.bases.values():
        yield ("base", "", base.quant), canonical(base.spec(1))
    for quant in QUANTS:
        yield ("adopt", "", quant), canonical(Adopted("m", "d", "mine", quant, "pissa", "mine").spec(1))


def changed(sweep: Sweep, before: dict) -> set[tuple[str, str, str]]:
    after = dict(specs(sweep))
    assert after.keys() == before.keys()
    return {key for key in before if before[key] != after[key]}


@pytest.fixture
def before(sweep):
    found = dict(specs(sweep))
    assert len(found) == len(METHODS) * len(QUANTS) * 5 + 2 * len(QUANTS)
    assert not [spec for spec in found.values() if "quant_version" in spec or "task_version" in spec]
    return found


@pytest.mark.parametrize("file", ["nf4", "int8"])
def test_a_quantizers_version_is_in_all_specs_of_its_quants(sweep, before, monkeypatch, file):
    monkeypatch.setattr(quantizers.PLUGINS.load(file), "VERSION", 2)
    ours = {quant for quant in QUANTS if quantizers.find(quant).file == file}
    assert ours and changed(sweep, before) == {key for key in before if key[2] in ours}


LENT = {"lora": {"lora", "lora_plus", "lora_pro", "kasa"}, "pissa": {"pissa", "pissa_adalora"}, "kasa": {"kasa"},
        "adalora": {"pissa_adalora"}}  # fmt: skip


@pytest.mark.parametrize(("file", "users"), LENT.items())
def test_a_methods_version_is_in_the_specs_of_all_that_take_parts_of_its_file(sweep, before, monkeypatch, file, users):
    monkeypatch.setattr(methods.load(file), "VERSION", 2)
    assert changed(sweep, before) == {key for key in before if key[1] in users}
    assert {methods.version(name) for name in users} == {2}


def test_studies_know_the_versions_behind_them(sweep, monkeypatch):
    model = sweep.config["studies"]["models"][0]
    cell = next(cell for cell in sweep.cells.values() if cell.quant == "int8")

    def made():
        errors = [studies.errors_spec(sweep, model, grid) for grid in ("ranks", "quants")]
        others = [studies.spectra_spec(sweep, model), studies.trained_error_spec(sweep, cell), toy.spec(sweep)]
        return [canonical(spec) for spec in (*errors, *others)]

    first = made()
    monkeypatch.setattr(quantizers.PLUGINS.load("nf4"), "VERSION", 2)
    second = made()
    assert [a != b for a, b in zip(first, second, strict=True)] == [True, True, True, True, False]
    monkeypatch.setattr(methods.load("pissa"), "VERSION", 2)
    assert [a != b for a, b in zip(second, made(), strict=True)] == [True, True, True, False, True]


def test_a_tasks_version_scores_again_what_was_generated(sweep, before, monkeypatch):
    file = sweep.config["tasks"][MINI]["task"]
    monkeypatch.setitem(tasks.metadata(file), "version", 2)
    assert changed(sweep, before) == {key for key in before if key[0] == "evaluate"}
    cell = next(iter(sweep.cells.values()))
    assert scoring(sweep.generate_spec(cell, MINI)) == sweep.evaluate_spec(cell, MINI)
    assert sweep.evaluate_spec(cell, MINI)["task_version"] == 2
