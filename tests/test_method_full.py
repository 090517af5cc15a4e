"""Full fine-tuning: no factors, no quantized base, and a model that is configured as its base."""

from pathlib import Path

import pytest
from helpers import Run

from pissa_repro import methods, quantizers
from pissa_repro.runtime.record import read_json


def test_it_trains_every_weight():
    assert not methods.has_factors("full")


def test_every_quantization_is_refused():
    assert [quant for quant in quantizers.names() if not methods.refusal("full", quant)] == ["none"]


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_what_it_leaves_is_configured_as_its_base(tmp_path, tiny_model, tiny_rows, name):
    """With its cache, too: the Trainer turns it off, and leaves it off. The padding is the tokenizer's."""
    run = Run(tmp_path, tiny_model, tiny_rows, "full", steps=2)
    run.train()
    base, left = (read_json(folder / name) for folder in (Path(read_json(run.model)["path"]), run.trained))
    assert base["use_cache"] is True
    assert [key for key in left if key != "pad_token_id" and left[key] != base.get(key)] == []
