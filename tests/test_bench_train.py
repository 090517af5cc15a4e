"""The benchmark of training at a tiny size: all contenders train the same, and what is counted is right. No times."""

import json

import helpers  # noqa: F401  one thread
import pytest
import torch


def test_all_train_the_same_steps_and_ours_with_the_least_padding(bench, tmp_path, capsys, tiny_model):
    """A model's folder, and rows of GSM8K's form; the lines are kept."""
    rows = tmp_path / "rows.jsonl"
    texts = [("What is 1 + 1? " * (1 + n % 7), f"It is 2.\n#### {2 + n}") for n in range(512)]
    rows.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in texts), encoding="utf-8")
    models = bench("train_models")
    with torch.random.fork_rng([]):
        arguments = ["--quick", "--model", str(tiny_model), "--rows", str(rows), "--rank", "4", "--out", str(tmp_path)]
        bench("train").main(arguments)
    text = (tmp_path / "train.jsonl").read_text(encoding="utf-8")
    ours, plain, trl = map(json.loads, text.splitlines())
    assert [ours["contender"], plain["contender"], trl["contender"]] == [models.OURS, models.PLAIN, models.TRL]
    assert ours["tokens"] == plain["tokens"] == trl["tokens"] > 0 and ours["loss_difference"] == 0
    assert max(plain["loss_difference"], trl["loss_difference"]) <= bench("train").LIMIT
    assert ours["padding"] < 0.5 * plain["padding"] and plain["padding"] == trl["padding"]
    for line in (ours, plain, trl):
        assert (line["model"], line["batch"], line["micro"], line["steps"]) == (tiny_model.name, 8, 2, 2)
        assert line["ours"]["low"] <= line["ours"]["median"] <= line["ours"]["high"]
        assert line["memory_bytes"] > 10**8 and line["tokens_per_second"][0] > 0 and line["git"]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3 and "times as fast" not in printed[0] and "times as fast" in printed[1]


def test_other_losses_end_with_an_error(bench):
    """A loss that is no number, too."""
    train, ran = bench("train"), bench("train_models").Ran
    one, two = (ran(losses, tokens=60, places=80, seconds=2.0, memory=0) for losses in ([2.0, 1.0], [2.0, 1.00002]))
    assert train.difference(two, one) == pytest.approx(2e-5) and (one.speed, one.padding) == (30.0, 0.25)
    found = [
        {"contender": "a", "micro": 4, "loss_difference": difference} for difference in (0.0, 9e-6, 2e-5, float("nan"))
    ]
    assert train.apart(found) == ["a, micro 4"] * 2
