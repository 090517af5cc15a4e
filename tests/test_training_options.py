"""Options of a method's training: typed by their defaults, in the spec of the training alone, and told of."""

from pathlib import Path

import numpy as np
import pytest
from helpers import Run, config
from plugged import thrown
from safetensors.torch import load_file
from stage import says

from pissa_repro import methods
from pissa_repro.model import factors
from pissa_repro.plan.config import ROOT
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results import rows, scored

DEFAULTS = {"weight": 0.5, "turns": 3, "both": True, "kind": "mean"}
TEXT = f"""REFERENCE = True
TRAINING_OPTIONS = {DEFAULTS}
CHOICES = {{"kind": ("mean", "sum")}}


class Weighted(Training):
    def penalty(self, modules):
        return self.options["weight"] * sum(parts.A.pow(2).sum() for parts in modules.values())


TRAINING = Weighted
"""
OTHERS = {"weight": (0.0, 2.5, 7), "turns": (1, 1000), "both": (False,), "kind": ("sum",)}
WRONG = {
    "weight": (-0.1, True, "0.5", None),
    "turns": (0, 1001, 2.5, True, "3", None),
    "both": (0, 1, "true", None),
    "kind": ("men", 1, True, None),
}
WORDS = {"weight": "a number from 0", "turns": "a whole number from 1 to 1,000", "both": "true or false", "kind": "sum"}


@pytest.fixture
def made(monkeypatch, tmp_path):
    """The name of a method with an option of each kind."""
    return thrown(monkeypatch, tmp_path, TEXT)


def sweep(method, **options):
    return Sweep(config(Path("model"), Path("rows.jsonl"), method, "none", options=options))


def specs(method, **options):
    """The specs of the start and of the training of the only cell."""
    found = sweep(method, **options)
    (cell,) = found.cells.values()
    return found.init_spec(cell), found.train_spec(cell)


@pytest.mark.parametrize("name", OTHERS)
def test_another_value_trains_again_from_the_same_start(made, name):
    start, training = specs(made)
    assert training["options"] == DEFAULTS and start["options"] == {} and training["init"] == start
    for value in OTHERS[name]:
        again, other = specs(made, **{name: value})
        assert again == start
        assert other == training | {"options": DEFAULTS | {name: value}}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_of_another_kind_is_refused(made, name):
    for value in WRONG[name]:
        says(lambda value=value: sweep(made, **{name: value}), "config.methods.tested", repr(name), WORDS[name])
    says(lambda: sweep(made, weights=1.0), "config.methods.tested", "'weights'", "'weight'")


def test_one_number_is_one_spec(made):
    """1 in a config is 1.0: a spec is compared as text."""
    assert repr(specs(made, weight=1)) == repr(specs(made, weight=1.0))


def test_a_method_without_options_of_its_training_has_no_key_for_them():
    plain = [name for name in methods.names() if not methods.load(name).TRAINING_OPTIONS]
    found = [name for name in plain if not methods.refusal(name, "none")]
    assert found and not any("options" in specs(name)[1] for name in found)


def test_another_value_is_told_and_makes_no_reference(made):
    for options, told in (({}, ""), ({"turns": 3}, ""), ({"turns": 4, "kind": "sum"}, "turns=4, kind=sum, ")):
        found = sweep(made, **options)
        (cell,) = found.cells.values()
        assert rows.as_it_is(found, cell) == (not told)
        score = scored.Scored(Path("task.json"), {"spec": found.evaluate_spec(cell, "task")}, [], np.zeros(0))
        assert scored.display(score) == f"Thrown, {told}rank 4, learning rate 0.001"


def sizes(folder, model, data, method, name, **changes):
    """Train with two weights of a penalty; the size of all A or of all B after each."""
    for weight in (0, 9):
        run = Run(folder / str(weight), model, data, method, options={"weight": weight}, **changes)
        run.init()
        assert run.train()["spec"]["options"]["weight"] == weight
        trained = load_file(run.factors / factors.FACTORS)
        yield sum(tensor.norm() for key, tensor in trained.items() if name in key)


def test_the_training_gets_them(made, tmp_path, tiny_model, tiny_rows):
    """A penalty of weight 0 is none, and one of weight 9 shrinks A."""
    free, kept = sizes(tmp_path, tiny_model, tiny_rows, made, "lora_A", steps=3)
    assert kept < 0.999 * free


def test_the_guides_example_does_what_it_says(monkeypatch, tmp_path, tiny_model, tiny_rows):
    guide = (ROOT / "docs/guides/add_a_method.md").read_text(encoding="utf-8")
    (text,) = (block for block in guide.split("```python\n")[1:] if "TRAINING = " in block)
    short = thrown(monkeypatch, tmp_path, text.partition("```")[0], head="")
    free, kept = sizes(tmp_path, tiny_model, tiny_rows, short, "lora_B", steps=6)
    assert 0 < kept < 0.9 * free
