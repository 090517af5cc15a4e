"""The comparison of two scored cells, on records and samples as the scoring stage writes them; all answers invented."""

import copy
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from commands import pissa

from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results import stats
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json, write_json, write_lines

ITEMS = 200
SHARE = {"lora": 0.40, "pissa": 0.60}  # of right answers
ORIGIN = {
    "git": {"commit": "c0ffee" + "0" * 34, "dirty": False},
    "versions": {"python": "3.11.9", "torch": "2.13.0", "vllm": "0.32.0", "lm-eval": "0.4.13"},
    "hardware": {"processor": "a processor", "cores": 2},
}


def answers(method, seed):
    """Scores (items,): item i is right if its difficulty is below the method's share, with noise by seed."""
    rng = np.random.default_rng([seed, *method.encode()])
    return (np.arange(ITEMS) / ITEMS + rng.normal(0, 0.05, ITEMS) < SHARE[method]).astype(int)


def samples(scores, **metrics):
    """The lines of a samples file; what is generated says whether the answer is right."""
    return [
        {
            "id": i,
            "prompt": f"Ann has {i} apples and buys 3 more. How many apples are there?",
            "target": f"{i} + 3 = {i + 3}\n#### {i + 3}",
            "generated": f" {i} + 3 = {i + 3 if score else i + 4}\nThe answer is: {i + 3 if score else i + 4}",
            "paper": score,
            **{name: np.asarray(values)[i].item() for name, values in metrics.items()},
        }
        for i, score in enumerate(np.asarray(scores).tolist())
    ]


def write(folder, spec, rows, metrics=("paper",), task="gsm-mini", **changes):
    """A cell's score as the stage leaves it: the record and the samples. Returns the record's path."""
    values = {name: [row[name] for row in rows] for name in metrics}
    record = {
        "spec": spec,
        "base": {"name": "embedded", "commit": None, "fingerprint": "f" * 64},
        "data_sha256": "d" * 64,
        "metrics": {
            name: {"value": float(np.mean(v)), "stderr": float(np.std(v, ddof=1) / len(v) ** 0.5), "n": len(v)}
            for name, v in values.items()
        },
        "checks": {"training_effect": 0.5, "merge_error": 1e-7},
        "generated": {"seconds": 1.0, "tokens": 9, "runs": [ORIGIN | {"prompts_cut": 0}]},
        "provenance": ORIGIN,
    }
    path = folder / "eval" / f"{task}.json"
    write_json(path, copy.deepcopy(record) | changes)
    write_lines(folder / "eval" / f"{task}.samples.jsonl", rows)
    return path


@pytest.fixture(scope="module")
def sweep():
    return Sweep(load(ROOT / "config/config.yaml"))


@pytest.fixture
def cells(tmp_path, sweep):
    """The LoRA and PiSSA cells of the embedded sweep, three seeds each: {"lora": path without seed, ...}."""
    for cell in sweep.cells.values():
        if cell.method in SHARE and cell.quant == "none":
            write(
                tmp_path / "cells" / cell.name,
                sweep.evaluate_spec(cell, "gsm-mini"),
                samples(answers(cell.method, cell.seed), strict=answers(cell.method, cell.seed) * 0),
                ("paper", "strict"),
            )
    place = tmp_path / "cells" / "mini-llama" / "gsm-mini-train"
    return {method: place / f"{method}-none-r16-lr0.003" for method in SHARE}


def at(path, seed):
    """The folder of one seed."""
    return path.with_name(f"{path.name}-s{seed}")


def change(path, seed, task="gsm-mini", **changes):
    """Change the record of one seed: values at dotted places, __ for a dot."""
    record_path = at(path, seed) / "eval" / f"{task}.json"
    record = read_json(record_path)
    for place, value in changes.items():
        *way, last = place.split("__")
        target = record
        for key in way:
            target = target[key]
        target[last] = value
    write_json(record_path, record)


def run(capsys, *argv):
    """What the command prints; it fits 100 columns apart from paths, and holds nothing that is missing."""
    pissa("compare", *argv)
    text = capsys.readouterr().out
    assert all(len(line) <= 100 or " " not in line.strip() or "/cells/" in line for line in text.splitlines())
    assert not {"None", "nan", "inf"} & set(text.replace(",", " ").split())
    assert "\x1b" not in text
    return text


def test_all_seeds_of_two_cells(cells, capsys, tmp_path):
    text = run(capsys, cells["pissa"], cells["lora"], "--json", tmp_path / "out.json")
    a, b = (np.stack([answers(method, seed) for seed in range(3)]) for method in ("pissa", "lora"))
    found, wanted = read_json(tmp_path / "out.json"), stats.paired_bootstrap(a, b)
    assert found["difference"] == {**vars(wanted), "verdict": "better"}
    for side, scores in (("a", a), ("b", b)):
        assert found[side]["value"] == pytest.approx(scores.mean()) == found[side]["recorded"]
        assert found[side]["std_seeds"] == pytest.approx(scores.mean(axis=1).std(ddof=1))
        assert found[side]["stderr_items"] == pytest.approx(stats.stderr_items(scores))
        assert found[side]["seeds"] == [0, 1, 2]
    for seed, one in enumerate(found["by_seed"]):
        assert one["seed"] == [seed, seed]
        assert one["mcnemar_p"] == stats.mcnemar(a[seed], b[seed]).p
        assert one["higher_in_a"] == np.flatnonzero(a[seed] > b[seed]).tolist()
        assert one["higher_in_b"] == np.flatnonzero(b[seed] > a[seed]).tolist()
        assert one["same_text"] == (a[seed] == b[seed]).sum()
    assert found["provenance"]["versions"]["python"]
    assert text.startswith("A  PiSSA, rank 16, learning rate 0.003, seeds 0 1 2\n")
    assert "\nB  LoRA, rank 16, learning rate 0.003, seeds 0 1 2\n" in text
    assert "Task gsm-mini, metric paper, the same 200 items." in text
    assert f"A - B    {100 * wanted.mean:+.2f} points, 95 % interval" in text
    assert "(paired bootstrap over items and seeds, widened for few seeds)" in text
    assert "Verdict: A is better than B.\n" in text
    assert "differ in" not in text and "Left out" not in text and "uncommitted" not in text


def test_turned_round_the_verdict_turns(cells, capsys):
    assert "Verdict: A is worse than B." in run(capsys, cells["lora"], cells["pissa"])


@pytest.mark.parametrize("form", ["record", "samples", "folder"])
def test_one_seed_in_every_form(cells, capsys, form):
    a, b = (at(cells[method], 1) for method in ("pissa", "lora"))
    given = {
        "record": lambda folder: folder / "eval" / "gsm-mini.json",
        "samples": lambda folder: folder / "eval" / "gsm-mini.samples.jsonl",
        "folder": lambda folder: f"{folder}/",
    }[form]
    text = run(capsys, given(a), b)
    only_a, only_b = (answers("pissa", 1) > answers("lora", 1)).sum(), (answers("lora", 1) > answers("pissa", 1)).sum()
    p = stats.mcnemar(answers("pissa", 1), answers("lora", 1)).p
    assert f"{only_a} ({only_a / 2:.1f} %)" in text and f"{only_b} ({only_b / 2:.1f} %)" in text
    assert f"{p:.2g}" in text
    assert "paired bootstrap over items)" in text
    assert "about other items, not about other seeds" in " ".join(text.split())
    assert "over seeds" not in text and "for each seed" not in text


def test_seeds_of_one_side_only_are_named_and_left_out(cells, capsys):
    (at(cells["lora"], 2) / "eval" / "gsm-mini.json").unlink()
    (at(cells["pissa"], 0)).rename(at(cells["pissa"], 7))
    change(cells["pissa"], 7, spec__generate__train__seed=7)
    text = run(capsys, cells["pissa"], cells["lora"])
    assert "Left out, because only A has them: seeds 2, 7." in text
    assert "Left out, because only B has them: seeds 0." in text
    assert "A  PiSSA, rank 16, learning rate 0.003, seed 1\n" in text


def test_seeds_are_paired_by_number_and_come_in_its_order(cells, capsys, tmp_path):
    for path in cells.values():
        at(path, 0).rename(at(path, 10))
        change(path, 10, spec__generate__train__seed=10)
    run(capsys, cells["pissa"], cells["lora"], "--json", tmp_path / "out.json")
    found = read_json(tmp_path / "out.json")
    assert [one["seed"] for one in found["by_seed"]] == [[1, 1], [2, 2], [10, 10]]
    assert found["by_seed"][2]["a"] == answers("pissa", 0).mean()


def test_a_group_and_one_cell_meet_at_its_seed(cells, capsys):
    text = run(capsys, cells["pissa"], at(cells["lora"], 1))
    assert "seeds 0, 2." in text and "PiSSA, rank 16, learning rate 0.003, seed 1\n" in text


def test_two_named_cells_may_have_different_seeds_and_it_says_so(cells, capsys):
    text = run(capsys, at(cells["lora"], 0), at(cells["lora"], 1))
    assert "train.seed: 0 / 1" in text
    assert "no difference shown between A and B" in text
    assert "that does not show that they are equal" in " ".join(text.split())


def test_no_seed_in_common_is_refused(cells):
    for seed in (1, 2):
        at(cells["pissa"], seed).rename(at(cells["pissa"], seed + 10))
        change(cells["pissa"], seed + 10, spec__generate__train__seed=seed + 10)
    with pytest.raises(UserError, match=r"no seed is on both sides: A has \[0, 11, 12\].*B has \[1\]"):
        pissa("compare", cells["pissa"], at(cells["lora"], 1))


def test_examples_are_shown_where_the_texts_part(cells, capsys):
    a, b = answers("pissa", 0), answers("lora", 0)
    text = run(capsys, at(cells["pissa"], 0), at(cells["lora"], 0), "--examples", "2")
    gained = np.flatnonzero(a > b)
    assert f"Right in A, wrong in B: 2 of {len(gained)} items, the first" in text
    shown = text.split("Right in A, wrong in B")[1].split("Right in B")[0]
    assert shown.count("\nitem ") == 2
    i = int(gained[0])
    assert f"item {i}, seed 0\n  prompt:  Ann has {i} apples" in shown
    assert f"  A:        {i} + 3 = {i + 3}\\nThe answer is: {i + 3}\n" in shown
    assert f"  B:        {i} + 3 = {i + 4}\\nThe answer is: {i + 4}\n" in shown
    assert "\nitem " not in run(capsys, cells["pissa"], cells["lora"], "--examples", "0")


def test_over_seeds_the_items_that_flip_in_most_seeds_come_first(cells, capsys, tmp_path):
    run(capsys, cells["pissa"], cells["lora"], "--json", tmp_path / "out.json", "--examples", "5")
    flips = sum((answers("pissa", s) > answers("lora", s)).astype(int) for s in range(3))
    shown = [one["id"] for one in read_json(tmp_path / "out.json")["examples"]["a"]]
    assert shown == np.argsort(-flips, kind="stable")[:5].tolist()
    assert flips[shown[0]] == 3


def long_texts(cells, a, b):
    """Give item 150 of seed 0 these texts; right in A, wrong in B."""
    for method, text, score in (("pissa", a, 1), ("lora", b, 0)):
        rows = samples(answers(method, 0))
        rows[150] |= {"generated": text, "paper": score}
        write(at(cells[method], 0), read_json(at(cells[method], 0) / "eval" / "gsm-mini.json")["spec"], rows)
    ids = np.flatnonzero(answers("pissa", 0) > answers("lora", 0)).tolist()
    return [at(cells["pissa"], 0), at(cells["lora"], 0), "--examples", str(len(ids) + 1)]


def test_a_long_text_is_shown_around_the_first_difference_and_at_its_end(cells, capsys):
    same = "".join(f"[same {i}]" for i in range(100))
    argv = long_texts(cells, f"{same}<one>{'x' * 900}end A", f"{same}<two>{'y' * 900}end B")
    shown = " ".join(run(capsys, *argv).split("item 150,")[1].split("item ")[0].split())
    assert "A: ...95][same 96][same 97][same 98][same 99]<one>xxx" in shown
    assert "B: ...95][same 96][same 97][same 98][same 99]<two>yyy" in shown
    assert "x ... x" in shown and "xend A" in shown and "yend B" in shown
    full = run_full(capsys, argv)
    assert same + "<one>" + "x" * 900 + "end A" in full


def run_full(capsys, argv):
    pissa("compare", *argv, "--full")
    return capsys.readouterr().out


def test_control_characters_do_not_reach_the_terminal(cells, capsys):
    argv = long_texts(cells, "red \x1b[31m\x07 \u2028 é\nThe answer is: 153", "")
    text = run(capsys, *argv)
    assert r"red \x1b[31m\x07 \u2028 é\nThe answer is: 153" in text
    assert "B:       (empty)" in text
    full = run_full(capsys, argv)
    assert "\x1b" not in full and "\x07" not in full and "    The answer is: 153\n" in full


def test_texts_of_several_turns(cells, capsys):
    text = run(capsys, *long_texts(cells, ["first", "second A"], ["first", "second B"]))
    assert r"first\n\nsecond A" in text


def test_what_else_differs_is_said(cells, capsys):
    train = "spec__generate__train__"
    change(cells["lora"], 0, base__fingerprint="e" * 64, data_sha256="c" * 64, provenance__git__dirty=True)
    change(cells["lora"], 0, spec__generate__backend="vllm", spec__generate__max_new_tokens=99)
    change(cells["lora"], 0, **{train + "settings__dtype": "bfloat16", train + "init__target_modules": ["q_proj"]})
    change(cells["lora"], 0, **{train + "init__alpha": 32.0}, judge={"model": "a judge", "judgements": 7})
    change(cells["lora"], 0, generated__runs=[ORIGIN, ORIGIN | {"versions": {"torch": "2.12.0"}}])
    text = run(capsys, at(cells["pissa"], 0), at(cells["lora"], 0))
    listed = text.split("these differ in (A / B):\n")[1].split("\n\n")[0].splitlines()
    assert [line.strip() for line in listed if line.startswith("  ") and ":" in line] == [
        "base model: embedded ffffffffffff / embedded eeeeeeeeeeee",
        "scored rows (SHA-256): dddddddddddd / cccccccccccc",
        "generate.backend: hf / vllm",
        "generate.max_new_tokens: 56 / 99",
        "init.alpha / rank: 1.0 / 2.0",
        'init.target_modules: ["q_proj","k_proj","v_proj","o_proj","gate_proj","up_proj","down_proj"] /',
        "train.settings.dtype: float32 / bfloat16",
        "torch (generating): 2.13.0 / 2.13.0, 2.12.0",
        "commit (scoring): c0ffee000000 / c0ffee000000 with uncommitted changes",
        "judge.model: none / a judge",
        "vllm (generating): none / 0.32.0, none",
    ]
    assert "B was made with uncommitted changes" in text


def test_full_fine_tuning_differs_in_having_no_factors_and_that_is_no_warning(cells, sweep, capsys, tmp_path):
    cell = next(c for c in sweep.cells.values() if c.method == "full" and c.seed == 0)
    write(tmp_path / "full", sweep.evaluate_spec(cell, "gsm-mini"), samples(answers("lora", 5)))
    text = run(capsys, at(cells["pissa"], 0), tmp_path / "full")
    assert "B  full FT, learning rate 0.003, seed 0" in text
    assert "differ in" not in text


def test_a_quantized_base_is_named(cells, sweep, capsys, tmp_path):
    cell = next(c for c in sweep.cells.values() if (c.method, c.quant, c.seed) == ("pissa", "nf4", 0))
    write(tmp_path / "q", sweep.evaluate_spec(cell, "gsm-mini"), samples(answers("lora", 5)))
    assert "B  QPiSSA, nf4 base, rank 16" in run(capsys, at(cells["pissa"], 0), tmp_path / "q")


def test_the_trainings_code_is_compared_where_its_record_is_there(cells, capsys):
    for method, torch in (("pissa", "2.13.0"), ("lora", "2.12.0")):
        versions = ORIGIN["versions"] | {"torch": torch}
        write_json(at(cells[method], 0) / "train.json", {"provenance": ORIGIN | {"versions": versions}})
    assert "torch (training): 2.13.0 / 2.12.0" in run(capsys, at(cells["pissa"], 0), at(cells["lora"], 0))


def test_uncommitted_changes_are_said_on_both_sides(cells, capsys):
    for path in cells.values():
        change(path, 0, provenance__git__dirty=True)
    text = run(capsys, at(cells["pissa"], 0), at(cells["lora"], 0))
    assert "A and B were made with uncommitted changes" in text
    assert "differ in" not in text


def test_the_same_text_with_another_score_is_said(cells, capsys):
    text = run(capsys, *long_texts(cells, "the same", "the same"))
    assert "1 items have the same text but another score" in text
    assert "  A and B: the same\n" in text


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


def test_what_came_of_the_scoring_is_no_condition_of_it(cells, capsys):
    change(cells["lora"], 0, math_verify_cut_off=3)
    assert "differ in" not in run(capsys, at(cells["pissa"], 0), at(cells["lora"], 0))


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
        pissa(
            "compare",
            *([str(at(cells[m], 0)) for m in ("pissa", "lora")] + ["--task", "text", "--metric", "perplexity"]),
        )


def test_items_in_another_order_are_the_same_items(cells, capsys):
    folder = at(cells["lora"], 0)
    before = run(capsys, at(cells["pissa"], 0), folder)
    path = folder / "eval" / "gsm-mini.samples.jsonl"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert run(capsys, at(cells["pissa"], 0), folder) == before


@pytest.mark.parametrize("seed", [0, 2])
def test_other_items_are_refused_with_the_number_of_shared_ones(cells, seed):
    """Also where only a later seed has them."""
    rows = samples(answers("lora", seed))[:150]
    for row in rows[:30]:
        row["prompt"] += " Think."
    spec = read_json(at(cells["lora"], seed) / "eval" / "gsm-mini.json")["spec"]
    write(at(cells["lora"], seed), spec, rows)
    with pytest.raises(UserError, match=r"lora-.*\(150 items\) and .*pissa-.*\(200\).*different items: they share 120"):
        pissa("compare", cells["pissa"], cells["lora"])


def test_samples_written_twice_are_refused(cells):
    """A file that was opened for append doubles the denominator (trap 22)."""
    path = at(cells["lora"], 0) / "eval" / "gsm-mini.samples.jsonl"
    path.write_text(path.read_text() * 2)
    with pytest.raises(UserError, match="do not give the score"):
        pissa("compare", at(cells["pissa"], 0), at(cells["lora"], 0))


def test_samples_of_another_run_are_refused(cells):
    path = at(cells["lora"], 0) / "eval" / "gsm-mini.samples.jsonl"
    path.write_text(path.read_text().replace('"paper": 0', '"paper": 1', 1))
    with pytest.raises(UserError, match="do not give the score"):
        pissa("compare", at(cells["pissa"], 0), at(cells["lora"], 0))


def test_an_unknown_metric_names_those_that_exist(cells):
    with pytest.raises(UserError, match=r"unknown metric 'strikt'. Did you mean 'strict'\? Choices: paper, strict"):
        pissa("compare", cells["pissa"], cells["lora"], "--metric", "strikt")


def test_several_tasks_want_a_choice(cells, sweep, capsys):
    for method in SHARE:
        folder = at(cells[method], 0)
        spec = read_json(folder / "eval" / "gsm-mini.json")["spec"]
        write(folder, spec, samples(answers(method, 1)), task="other")
    with pytest.raises(UserError, match=r"2 scored tasks \(gsm-mini, other\). Choose one with --task"):
        pissa("compare", cells["pissa"], cells["lora"])
    with pytest.raises(UserError, match="unknown task 'math'.*Choices: gsm-mini, other"):
        pissa("compare", cells["pissa"], cells["lora"], "--task", "math")
    assert "Task other, metric paper" in run(capsys, cells["pissa"], cells["lora"], "--task", "other")


@pytest.mark.parametrize("given", ["nothing-none-r16", "nothing.json", "nothing.samples.jsonl", "no/folder"])
def test_missing_files_are_named(cells, given):
    path = cells["pissa"].parent / given
    with pytest.raises(UserError, match=rf"{given.removesuffix('.samples.jsonl')}(\.json)?: no such (score|record)\."):
        pissa("compare", path, cells["lora"])


def test_missing_samples_and_other_files_are_named(cells):
    (at(cells["lora"], 1) / "eval" / "gsm-mini.samples.jsonl").unlink()
    with pytest.raises(UserError, match=r"lora-.*-s1/eval/gsm-mini.samples.jsonl: no such samples"):
        pissa("compare", cells["pissa"], cells["lora"])
    other = cells["lora"].with_name("train.json")
    write_json(other, {"spec": {}, "final_loss": 0.5})
    with pytest.raises(UserError, match="train.json: not the record of a score. Give a scoring record"):
        pissa("compare", at(cells["pissa"], 1), other)


@pytest.mark.parametrize(
    ("line", "message"),
    [('{"id": 0, "prom', "not complete samples"), ('{"a": 1}', "no samples file"), ("[1]", "no samples file")],
)
def test_damaged_samples_are_named(cells, line, message):
    path = at(cells["lora"], 1) / "eval" / "gsm-mini.samples.jsonl"
    path.write_text(path.read_text() + line)
    with pytest.raises(UserError, match=message):
        pissa("compare", cells["pissa"], cells["lora"])


@pytest.mark.parametrize("value", ["null", '"1"', "NaN"])
def test_a_missing_number_is_never_a_score(cells, value):
    path = at(cells["lora"], 1) / "eval" / "gsm-mini.samples.jsonl"
    path.write_text(path.read_text().replace('"paper": 0', f'"paper": {value}', 1))
    with pytest.raises(UserError, match=r"item \d+ has no number for metric 'paper'"):
        pissa("compare", cells["pissa"], cells["lora"])


def test_a_score_is_not_compared_with_itself(cells):
    with pytest.raises(UserError, match="A and B are the same score"):
        pissa("compare", cells["pissa"], at(cells["pissa"], 1))


def test_the_command_starts_without_torch_and_lm_eval(cells):
    """As a user runs it; and an error is one line with exit code 1."""
    words = [str(at(cells[method], 0)) for method in ("pissa", "lora")]
    code = (
        "import runpy, sys; sys.argv[1:1] = ['compare']; "
        "runpy.run_module('pissa_repro', run_name='__main__'); "
        "heavy = {'torch', 'lm_eval', 'transformers', 'datasets', 'pandas', 'matplotlib', 'scipy.stats'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "") and "Verdict: A is better" in done.stdout
    command = [sys.executable, "-m", "pissa_repro", "compare", "nowhere", "lost"]
    failed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert failed.returncode == 1 and failed.stderr.startswith("error: nowhere: no such score.")
    assert failed.stderr.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error(cells):
    """As with `| head`: the other end of the pipe is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pissa_repro", "compare", str(cells["pissa"]), str(cells["lora"])]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_json_holds_the_examples_that_are_shown(cells, capsys, tmp_path):
    run(capsys, cells["pissa"], cells["lora"], "--json", tmp_path / "out.json", "--examples", "1")
    (example,) = json.loads((tmp_path / "out.json").read_text())["examples"]["a"]
    rows = samples(answers("pissa", example["seeds"][0]))
    assert example["generated"][0] == rows[example["id"]]["generated"]
    assert example["scores"] == [1.0, 0.0]
