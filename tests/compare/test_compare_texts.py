"""The comparison of two scored cells: the texts that it shows."""

import json

import numpy as np
from scored_cells import answers, at, long_texts, run, run_full, samples

from pissa_repro.runtime.record import read_json


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


def test_a_long_text_is_shown_around_the_first_difference_and_at_its_end(cells, capsys):
    same = "".join(f"[same {i}]" for i in range(100))
    argv = long_texts(cells, f"{same}<one>{'x' * 900}end A", f"{same}<two>{'y' * 900}end B")
    shown = " ".join(run(capsys, *argv).split("item 150,")[1].split("item ")[0].split())
    assert "A: ...95][same 96][same 97][same 98][same 99]<one>xxx" in shown
    assert "B: ...95][same 96][same 97][same 98][same 99]<two>yyy" in shown
    assert "x ... x" in shown and "xend A" in shown and "yend B" in shown
    full = run_full(capsys, argv)
    assert same + "<one>" + "x" * 900 + "end A" in full


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


def test_the_same_text_with_another_score_is_said(cells, capsys):
    text = run(capsys, *long_texts(cells, "the same", "the same"))
    assert "1 items have the same text but another score" in text
    assert "  A and B: the same\n" in text


def test_the_json_holds_the_examples_that_are_shown(cells, capsys, tmp_path):
    run(capsys, cells["pissa"], cells["lora"], "--json", tmp_path / "out.json", "--examples", "1")
    (example,) = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["examples"]["a"]
    rows = samples(answers("pissa", example["seeds"][0]))
    assert example["generated"][0] == rows[example["id"]]["generated"]
    assert example["scores"] == [1.0, 0.0]
