"""The comparison of two scored cells: which seeds are paired, and what else differs."""

import copy

import numpy as np
import pytest
from commands import pissa
from scored_cells import ORIGIN, answers, at, change, run, samples, write

from pissa_repro.results import stats
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json, write_json


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
        "base model (fingerprint): ffffffffffff / eeeeeeeeeeee",
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
    cell = next(c for c in sweep.cells.values() if not sweep.has_factors(c) and c.seed == 0)
    write(tmp_path / "full", sweep.evaluate_spec(cell, "gsm-mini"), samples(answers("lora", 5)))
    text = run(capsys, at(cells["pissa"], 0), tmp_path / "full")
    assert "B  full FT, learning rate 0.003, seed 0" in text
    assert "differ in" not in text


def test_a_quantized_base_is_named(cells, sweep, capsys, tmp_path):
    cell = next(c for c in sweep.cells.values() if (c.method, c.quant, c.seed) == ("pissa", "nf4", 0))
    write(tmp_path / "q", sweep.evaluate_spec(cell, "gsm-mini"), samples(answers("lora", 5)))
    assert "B  QPiSSA, alternations=5, nf4 base, rank 16" in run(capsys, at(cells["pissa"], 0), tmp_path / "q")


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


def test_what_came_of_the_scoring_is_no_condition_of_it(cells, capsys):
    change(cells["lora"], 0, math_verify_cut_off=3)
    assert "differ in" not in run(capsys, at(cells["pissa"], 0), at(cells["lora"], 0))


def test_two_methods_that_differ_in_their_fields_have_other_words(cells, sweep, capsys, tmp_path):
    """Fields of a start always; settings that a method replaces where nothing else tells two cells apart."""
    cell = next(c for c in sweep.cells.values() if (c.method, c.quant, c.seed) == ("pissa", "none", 0))

    def scored(name, settings=(), **init):
        spec = copy.deepcopy(sweep.evaluate_spec(cell, "gsm-mini"))
        train = spec["generate"]["train"]
        train["init"] |= init
        train["settings"] |= dict(settings)
        write(tmp_path / name, spec, samples(answers("pissa", len(name))))
        return tmp_path / name

    pattern = scored("pattern", lora={"rank_pattern": [["q_proj", 4]]})
    usual, other = scored("usual"), scored("other", {"dropout": 0.1}, alpha=32.0)
    text = run(capsys, pattern, usual)
    assert "A  PiSSA, rank_pattern={'q_proj': 4}, rank 16, learning rate 0.003" in text
    assert "B  PiSSA, rank 16, learning rate 0.003, seed" in text
    text = run(capsys, other, usual)
    assert "A  PiSSA, rank 16, learning rate 0.003, alpha=32.0, dropout=0.1, seed" in text
    assert "B  PiSSA, rank 16, learning rate 0.003, alpha=16.0, dropout=0, seed" in text
