"""Numbers of others: beside a row of their setting only, and never as a verdict."""

import copy

import pytest
import yaml
from verdicts import cell_of

from pissa_repro.paper import published, third_party


def beside(config, task="gsm8k", **changes):
    return [str(one) for one in third_party.beside(*cell_of(config, **changes), task)]


def linked(config, section, name, paper, **fields):
    """The config with another `paper:` key in a definition."""
    changed = copy.deepcopy(config)
    changed[section][name] |= {"paper": paper, **fields}
    return changed


def test_a_replication_stands_beside_the_papers_setting(config):
    assert beside(config) == ["51.48 ± 0.34 (CorDA paper, seen)"]
    assert beside(config, cells={"method": "lora", "quant": "none"}) == ["42.68 (CorDA paper, seen)"]
    assert beside(config, cells={"method": "full", "quant": "none"}) == ["48.9 (CorDA paper, seen)"]


@pytest.mark.parametrize(
    "changes", [{"ranks": 64}, {"learning_rates": 2e-4}, {"cells": {"method": "pissa", "quant": "nf4"}}]
)
def test_nothing_stands_beside_another_setting(config, changes):
    assert beside(config, **changes) == []


def test_another_batch_is_another_setting(config):
    assert beside({**config, "train": config["train"] | {"batch_size": 64}}) == []


def test_other_training_data_have_their_own_numbers(config):
    """LIFT's rebuttal: four seeds on MATH-10K."""
    changed = linked(config, "datasets", "metamath-100k", "math-10k")
    (said,) = beside(changed)
    assert said == "43.78 ± 0.54 (LIFT rebuttal, quoted by a third party; rank and rate not stated)"
    assert beside(changed, cells={"method": "lora", "quant": "none"})[0].startswith("47.02 ± 1.19 (")


def test_a_doubt_stands_with_its_number(config):
    changed = linked(config, "models", "llama-2-7b", "llama-3-70b")
    cells = {"method": "pissa", "quant": "nf4"}
    assert beside(changed, cells=cells) == []
    (said,) = beside({**changed, "train": changed["train"] | {"steps": 100}}, cells=cells)
    assert said.startswith("81.27 (an independent run of 100 steps, quoted by a third party; one seed; one of its")


def test_a_rate_that_was_read_from_a_picture_is_near_enough(config):
    changed = linked(config, "models", "llama-2-7b", "qwen3-0.6b")
    changed["tasks"]["gsm8k"]["paper"] = "math"
    changed["train"]["batch_size"] = 64
    assert beside(changed, learning_rates=2.05e-5)[0].startswith("49.43 (learning-rate study")
    assert beside(changed, learning_rates=2.2e-5) == []


def test_without_a_link_in_the_config_nothing_stands_beside(config):
    changed = copy.deepcopy(config)
    del changed["models"]["llama-2-7b"]["paper"]
    assert beside(changed) == []


def test_a_recollection_is_not_read(tmp_path, monkeypatch):
    raw = yaml.safe_load(published.PATH.read_text(encoding="utf-8"))
    raw["followup_tables"]["corda_paper"]["confidence"] = published.MEMORY
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    before = len(third_party.entries())
    monkeypatch.setattr(published, "PATH", tmp_path / "tables.yaml")
    third_party.entries.cache_clear()
    try:
        assert 0 < len(third_party.entries()) < before
        assert not [one for one in third_party.entries() if one.source == "CorDA paper"]
    finally:
        third_party.entries.cache_clear()
