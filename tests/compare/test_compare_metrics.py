"""The comparison of two scored cells: what a metric's values mean, and which way is better."""

import numpy as np
import pytest
from commands import pissa
from scored_cells import ITEMS, answers, at, change, run, samples, write

from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json
from pissa_repro.sources.prompt import written


@pytest.fixture
def ratings(cells):
    """Seed 0 of both cells with a rating of 1 to 10; PiSSA's is 0.5 higher, and 5 higher on item 42."""
    rng = np.random.default_rng(0)
    lora = rng.integers(2, 5, ITEMS).astype(float)
    for method, values in (("lora", lora), ("pissa", lora + 0.5 + 4.5 * (np.arange(ITEMS) == 42))):
        spec = read_json(at(cells[method], 0) / "eval" / "gsm-mini.json")["spec"]
        write(at(cells[method], 0), spec, samples(answers(method, 0), rating=values.tolist()), ("paper", "rating"))
    return [at(cells["pissa"], 0), at(cells["lora"], 0), "--metric", "rating"]


def test_what_is_not_right_or_wrong_is_higher_or_lower(ratings, capsys):
    text = run(capsys, *ratings)
    assert "Verdict: A is higher than B." in text
    assert "A - B   +0.5225, 95 % interval" in text
    assert "McNemar" not in text and "better" not in text and "Right in" not in text and "points" not in text
    assert "Higher in A: 3 of 200 items, largest changes first\n\nitem 42, seed 0, A " in text
    assert "Higher in B" not in text
    assert "Verdict: A is lower than B." in run(capsys, ratings[1], ratings[0], *ratings[2:])


def scored_by(cells, file, values, **more):
    """Seed 0 of both cells, scored by `paper` of another task file: {method: scores (items,)}."""
    for method, scores in values.items():
        path = at(cells[method], 0) / "eval" / "gsm-mini.json"
        spec = read_json(path)["spec"]
        spec["generate"]["task"] = file
        write(at(cells[method], 0), spec, samples(scores), **more)
    return [at(cells["pissa"], 0), at(cells["lora"], 0)]


def test_ratings_of_1_are_not_right_answers(cells, capsys, tmp_path):
    """The task file says what the items are, not their values."""
    given = scored_by(cells, "mt_bench", {"pissa": [1.0] * ITEMS, "lora": [1.0] * ITEMS})
    text = run(capsys, *given, "--json", tmp_path / "out.json")
    assert "%" not in text.replace("(0.0 %)", "").replace("95 % interval", "")
    assert "right only" not in text and "McNemar" not in text
    assert "metric paper (points of 10)" in text
    found = read_json(tmp_path / "out.json")
    assert (found["binary"], found["unit"], found["by_seed"][0]["mcnemar_p"]) == (False, "points of 10", None)


def test_values_tell_only_where_the_task_file_does_not(cells, capsys):
    values = {"pissa": answers("pissa", 0), "lora": answers("lora", 0)}
    assert "McNemar's p" in run(capsys, *scored_by(cells, "a task file of another checkout", values))
    assert "McNemar" not in run(capsys, *scored_by(cells, "mt_bench", values))


@pytest.mark.parametrize(
    ("file", "words", "turned", "higher"),
    [
        ("perplexity", "worse than B (lower is better)", "better than B (lower is better)", False),
        ("mt_bench", "better than B (higher is better)", "worse than B (higher is better)", True),
        ("a task file of another checkout", "higher than B", "lower than B", None),
    ],
)
def test_the_task_file_says_which_way_is_better(cells, capsys, tmp_path, file, words, turned, higher):
    """2.2 nats are worse than 2.0; the text and the JSON say the same."""
    nats = np.linspace(0, 0.1, ITEMS)
    a, b = scored_by(cells, file, {"pissa": 2.2 + nats, "lora": 2.0 + nats})
    for argv, said in (((a, b), words), ((b, a), turned)):
        text = run(capsys, *argv, "--json", tmp_path / "out.json")
        found = read_json(tmp_path / "out.json")
        assert f"Verdict: A is {said}." in text
        assert found["difference"]["verdict"] == said.split()[0]
        assert found["higher_is_better"] is higher


@pytest.mark.parametrize(("flips", "doubted"), [(4, True), (5, True), (6, False)])
def test_few_items_of_one_seed_are_doubted_where_the_exact_test_shows_nothing(cells, capsys, flips, doubted):
    """Of 4 items to 0, one draw in 55 holds none: the interval is above 0. Exact p: 0.125; of 6 to 0, 0.031."""
    lora = np.arange(ITEMS) % 2
    pissa = lora + (np.arange(ITEMS) % 2 == 0) * (np.arange(ITEMS) < 2 * flips)
    text = run(capsys, *scored_by(cells, "gsm8k", {"pissa": pissa, "lora": lora}))
    doubt = f"A is better than B, but only {flips} items differ; the exact test does not show it."
    assert (doubt in " ".join(text.split())) is doubted
    assert "Verdict: A is better than B" in text


def test_a_weighted_mean_is_said(ratings, cells, capsys):
    change(cells["pissa"], 0, metrics__rating__value=9.0)
    assert "The record of A says 9, not the mean over items" in run(capsys, *ratings)


def test_a_task_without_generation(cells, capsys):
    for method, shift in (("pissa", 0.0), ("lora", 0.25)):
        nats = [2 + i / 100 + shift * (i % 2) for i in range(ITEMS)]
        rows = [
            {"id": i, "prompt": f"text {i}", "target": "", "generated": {"loglikelihood": -4 * x, "tokens": 4}}
            | {"nats": x, "perplexity": [-4 * x, 4]}
            for i, x in enumerate(nats)
        ]
        spec = read_json(at(cells[method], 0) / "eval" / "gsm-mini.json")["spec"]
        write(at(cells[method], 0), spec, rows, ("nats",), task="text")
    change(cells["pissa"], 0, task="text", metrics__perplexity={"value": 20.0, "stderr": None, "n": ITEMS})
    text = run(capsys, at(cells["pissa"], 0), at(cells["lora"], 0), "--task", "text", "--metric", "nats")
    assert "Verdict: A is lower than B." in text
    assert "item 1, seed 0, A 2.01, B 2.26" in text
    assert text.split("same text\n")[1].splitlines()[0].endswith(" -")
    with pytest.raises(UserError, match=r"item 0 has no number for metric 'perplexity' \(it has \[-8.0, 4\]\)"):
        pissa("compare", *(at(cells[m], 0) for m in ("pissa", "lora")), "--task", "text", "--metric", "perplexity")


def test_the_same_items_asked_in_two_styles_are_paired(cells, capsys):
    """Where a row has no prompt of its own, a sample shows the words around the user's, which are the style's."""
    questions = [f"Write {{x}} number {i}." for i in range(ITEMS)]
    for method, style in (("lora", "alpaca"), ("pissa", "plain")):
        path = at(cells[method], 0) / "eval" / "gsm-mini.json"
        rows = [
            row | {"prompt": written(style, [question])}
            for row, question in zip(samples(answers(method, 0)), questions, strict=True)
        ]
        write(at(cells[method], 0), read_json(path)["spec"], rows)
    pair = at(cells["pissa"], 0), at(cells["lora"], 0)
    assert "the same 200 items" in run(capsys, *pair)
    questions.reverse()
    write(
        pair[0],
        read_json(pair[0] / "eval" / "gsm-mini.json")["spec"],
        [row | {"prompt": question} for row, question in zip(samples(answers("pissa", 0)), questions, strict=True)],
    )
    with pytest.raises(UserError, match="scored on different items: they share 0 "):
        run(capsys, *pair)
