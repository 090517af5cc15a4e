"""config/smollm2.yaml and what is laid over it: the numbers that it gives hold for the files that it names."""

import gzip
import json

import pytest

from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.sizes import size_of
from pissa_repro.sources.split import in_share

FILES = [ROOT / "config" / f"{name}.yaml" for name in ("config", "smollm2", "smollm2_135m")]
PARAMETERS = {"smollm2-135m": 134515008, "smollm2-360m": 361821120, "qwen3-0.6b": 596049920}  # the models' cards


@pytest.fixture(scope="module")
def small() -> Sweep:
    return Sweep(load(*FILES[:2]))


def test_a_plan_knows_the_models_without_their_files(small, tmp_path):
    assert {name: size_of(small, name, tmp_path).parameters for name in small.config["sweep"]["models"]} == PARAMETERS


def test_the_steps_are_one_epoch_of_the_rows_that_validation_leaves(small, shared_data):
    with gzip.open(shared_data / "gsm8k/train.jsonl.gz", "rt", encoding="utf-8") as file:
        questions = [json.loads(line)["question"] for line in file]
    share = small.config["datasets"]["gsm8k-validation"]["share"]
    drawn = sum(in_share(question, share, 0, 0) for question in questions)
    assert (len(questions), drawn) == (7473, 383)  # as the comments say
    assert small.config["train"]["steps"] == (len(questions) - drawn) // small.config["train"]["batch_size"]


def test_every_model_has_six_cells_three_seeds_and_a_row_0(small):
    for model in PARAMETERS:
        cells = [cell for cell in small.cells.values() if cell.model == model]
        assert len({(cell.method, cell.quant) for cell in cells}) == 6 and {cell.seed for cell in cells} == {0, 1, 2}
        assert [one.quant for one in small.bases.values() if one.model == model] == ["none", "nf4"]


def test_the_night_on_a_processor_is_one_seed_of_one_model():
    night = Sweep(load(*FILES))
    assert len(night.cells) == 6 and {cell.model for cell in night.cells.values()} == {"smollm2-135m"}
    assert night.config["models"]["smollm2-135m"]["gpus"] == 0
    assert {dict(cell.train)["dtype"] for cell in night.cells.values()} == {"float32"}
