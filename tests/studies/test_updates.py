"""How far a training has moved each module, against dense arithmetic and the record of the training."""

import pytest
import torch
from helpers import Run
from stage import says

from pissa_repro.linalg.gram import frobenius
from pissa_repro.model import checkpoint, factors
from pissa_repro.runtime.record import canonical, read_json
from pissa_repro.stages import study_updates
from pissa_repro.studies.updates import low_rank_values, measure_updates


def test_values_of_a_product_are_those_of_the_dense_matrix():
    torch.manual_seed(0)
    left, right = torch.randn(12, 5), torch.randn(5, 9)
    dense = torch.linalg.svdvals((left @ right).double())
    assert torch.allclose(low_rank_values(left, right)[:5], dense[:5], rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "quant"), [("pissa", "none"), ("pissa", "nf4"), ("lora_xs", "none"), ("full", "none")]
)
def test_its_mean_is_the_update_of_the_training(tmp_path, tiny_model, tiny_rows, method, quant):
    run = Run(tmp_path, tiny_model, tiny_rows, method, quant, steps=3)
    run.init()
    record = run.train()
    start = run.start if run.init_spec else None
    out = tmp_path / "updates.json"
    study_updates.main([
        "--spec", canonical({"stage": "updates"}), "--model", str(run.model),
        *(["--init", str(start)] if start else []),
        "--trained", str(run.trained), "--out", str(out), "--gpus", "0",
    ])  # fmt: skip
    found = read_json(out)
    assert found["mean"] == pytest.approx(record["update"], rel=1e-3)
    assert found["trained_sha256"] == record["trained_sha256"]
    for facts in found["modules"].values():
        squares = sum(value**2 for value in facts["values"])
        assert squares**0.5 == pytest.approx(facts["size"], rel=1e-4)
        assert 1 <= facts["stable_rank"] <= facts["effective_rank"] * 1.001
    if start is None:
        return
    initial = factors.load(start, read_json(run.model))
    last = factors.load_trained(run.trained, initial)
    name, weight = next(iter(checkpoint.targets(tiny_model, list(initial.A))))
    dense = sum(
        sign * one.scaling(name) * (one.wide(name).double() @ one.A[name].double())
        for sign, one in ((1, last), (-1, initial))
    )
    values = torch.linalg.svdvals(dense) / frobenius(weight)
    kept = torch.tensor(found["modules"][name]["values"], dtype=torch.float64)
    assert torch.allclose(kept[:4], values[:4], rtol=1e-4)


def test_what_trains_more_than_factors_is_not_measured(tmp_path, tiny_model, tiny_rows):
    run = Run(tmp_path, tiny_model, tiny_rows, "lora", lora={"use_dora": True}, steps=2)
    run.init()
    run.train()
    says(lambda: measure_updates(read_json(run.model), run.start, run.trained), "more than factors")
