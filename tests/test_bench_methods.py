"""The benchmark of methods at a tiny size: a line for each, of the base that it can have. No times."""

import json

import helpers  # noqa: F401  one thread
import torch

from pissa_repro import methods


def test_every_method_is_timed_on_a_base_that_it_does_not_refuse(bench):
    models = bench("methods_models")
    found = models.cells([])
    assert [name for name, _ in found] == [*methods.names(), models.PEFT]
    assert not [pair for pair in found[:-1] if methods.refusal(*pair)]


def test_a_line_says_start_step_and_statistics(bench, tmp_path, capsys):
    """A method that sees data, on a quantized base; one without a start; and PEFT's own, which prunes as it trains."""
    peft, whole = bench("methods_models").PEFT, next(name for name in methods.names() if not methods.has_factors(name))
    with torch.random.fork_rng([]):
        arguments = ["--quick", "--width", "64", "--rank", "4", "--out", str(tmp_path)]
        bench("methods").main([*arguments, "--only", "qera", whole, peft])
    text = (tmp_path / "methods.jsonl").read_text(encoding="utf-8")
    seeing, full, theirs = map(json.loads, text.splitlines())
    assert (seeing["quant"], full["quant"], theirs["method"]) == ("nf4", "none", peft)
    assert seeing["statistics_seconds"] > 0 == theirs["statistics_seconds"] and "start_ratio" in seeing
    assert "start_ratio" not in full and "start_ratio" not in theirs
    assert all(line["step_ratio"]["low"] <= line["step_ratio"]["median"] and line["git"] for line in (seeing, theirs))
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_limit_is_over_pefts_step(bench):
    module, peft = bench("methods"), bench("methods_models").PEFT
    held, free = module.HELD[0], "another"

    def line(method, median):
        return {"model": "m", "method": method, "step_ratio": {"median": median}}

    assert module.ratios([(2, 1), (9, 3), (8, 2)]) == {"median": 3, "low": 2, "high": 4}
    assert module.exceeded([line(peft, 2.0), line(held, 3.1), line(free, 9.0)]) == [f"m: {held}"]
    assert module.exceeded([line(peft, 2.0), line(held, 2.9)]) == module.exceeded([line(held, 9.0)]) == []
