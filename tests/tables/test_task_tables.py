"""Tables of other tasks than GSM8K: their units, their second metrics, and which way is better."""

import copy
import csv

import numpy as np
import pytest
from tabled import ITEMS, answers, make, run

from pissa_repro import tasks as task_files
from pissa_repro.plan.config import ROOT, load
from pissa_repro.stages import table as stage_table

SETS = ["boolq", "piqa", "social_i_qa", "hellaswag", "winogrande", "ARC-Easy", "ARC-Challenge", "openbookqa"]
CHUNKS = 20


def with_tasks(config, file, *names):
    """The config with tasks of these names that use a task file, and no others swept; a dataset for each."""
    config = copy.deepcopy(config)
    fields = dict.fromkeys(task_files.metadata(file)["fields"], "column")
    for name in names:
        config["datasets"][name] = {"path": f"{name}.jsonl", "fields": fields}
        config["tasks"][name] = {"task": file, "dataset": name, "max_new_tokens": 8}
    if "label" in fields:  # classes are asked of what was trained on classes
        for name in config["sweep"]["datasets"]:
            config["datasets"][name]["fields"] = fields
    config["sweep"]["tasks"] = list(names)
    return config


def texts(nats, count=CHUNKS):
    """Scores of a text in `count` chunks of 50 tokens: `nats(cell)` per token, and a little noise by seed and chunk."""

    def scored(cell, task):
        rng = np.random.default_rng([cell.seed, *cell.method.encode()])
        paper = nats(cell) + rng.normal(0, 0.01, count)
        pairs = [[-50 * value, 50] for value in paper]
        return {"paper": (paper.tolist(), paper.mean()), "perplexity": (pairs, float(np.exp(paper.mean())))}

    return scored


def rated(cell, task):
    """Ratings of two turns, 1 to 10."""
    rng = np.random.default_rng([cell.seed, *cell.method.encode()])
    first, second = rng.integers(1, 11, (2, 80)).astype(float)
    both = {"paper": (first + second) / 2, "turn_1": first, "turn_2": second}
    return {name: (values.tolist(), values.mean()) for name, values in both.items()}


def verified(cell, task):
    paper = answers(cell, task)
    return {"paper": (paper.tolist(), paper.mean()), "math_verify": ([1.0] * ITEMS, 1.0)}


@pytest.fixture(scope="module")
def perplexities(tmp_path_factory, config):
    """PiSSA predicts the text better than LoRA (2.0 nats against 2.2), QPiSSA worse than QLoRA (2.4 against 2.2)."""
    nats = {("pissa", "none"): 2.0, ("pissa", "nf4"): 2.4}
    scored = texts(lambda cell: nats.get((cell.method, cell.quant), 2.2))
    folder = tmp_path_factory.mktemp("perplexity")
    return run(folder, with_tasks(config, "perplexity", "text"), table="perplexity", scored=scored)


def test_nats_per_token_are_not_percent(perplexities):
    rows, text = perplexities
    assert {row["unit"] for row in rows} == {"nats per token"}
    assert [round(float(row["score_mean"]), 1) for row in rows] == [2.2, 2.2, 2.0, 2.2, 2.2, 2.4]
    assert all(0.001 < float(row["score_stderr_items"]) < 0.004 for row in rows)  # 0.01 / sqrt(20)
    assert "| score, nats per token | perplexity | difference, nats per token |" in text
    assert "in nats per token on the 20 items of text; lower is better." in text
    assert "(about 0.00" in text and "ccuracy" not in text and "points" not in text


def test_lower_nats_are_better(perplexities):
    rows, text = perplexities
    found = {row["method"]: (row["diff_verdict"], float(row["diff_to_lora"] or 0)) for row in rows}
    assert found["PiSSA"] == ("better", pytest.approx(-0.2, abs=0.01))
    assert found["QPiSSA"] == ("worse", pytest.approx(0.2, abs=0.01))
    assert found["full FT"][0] == found["LoftQ"][0] == "no difference shown"
    assert "- PiSSA against LoRA (rank 16): score -0." in text
    assert "], better; final loss lower by 0.2000" in text
    (line,) = [line for line in text.splitlines() if line.startswith("- QPiSSA against QLoRA")]
    assert " nats per token [+0.1" in line and "], worse; " in line


def test_the_perplexity_of_the_corpus_is_the_second_metric_and_no_mean_of_its_items(perplexities):
    rows, _ = perplexities
    assert {row["second_metric"] for row in rows} == {"perplexity"}
    assert float(rows[2]["second_mean"]) == pytest.approx(np.exp(2.0), abs=0.05)
    assert 0 < float(rows[2]["second_std"]) < 0.1


def test_one_item_has_no_error_and_is_compared_with_nothing(tmp_path, config):
    changed = with_tasks(config, "perplexity", "text")
    rows, text = run(tmp_path, changed, table="perplexity", scored=texts(lambda cell: 2.0, count=1))
    assert {(row["n"], row["score_stderr_items"], row["diff_verdict"]) for row in rows} == {("1", "", "")}
    assert "There is one item: its error is not known, and methods are not compared;" in text
    assert "better" not in text.replace("lower is better", "") and "reference" not in text


def test_one_item_and_one_seed_have_no_spread_to_explain(tmp_path, config):
    changed = with_tasks(config, "perplexity", "text")
    _, text = run(tmp_path, changed, table="perplexity", scored=texts(lambda cell: 2.0, count=1), seeds=[0])
    assert "There is one item and one seed: no spread is known, and methods are not compared." in text
    assert "±" not in text and "deviation" not in text


def test_a_validation_task_chooses_the_rate_of_the_lowest_nats(tmp_path, config):
    best = {"lora": 2e-3, "pissa": 2e-5}

    def scored(cell, task):
        good = (cell.learning_rate == best[cell.method]) == task.endswith("-validation")
        return texts(lambda cell: 1.0 if good else 3.0)(cell, task)

    changed = with_tasks(config, "perplexity", "text", "text-validation")
    cells = [{"method": name, "quant": "none"} for name in best]
    _, text = run(
        tmp_path, changed, table="perplexity", scored=scored, learning_rates=[2e-3, 2e-5], seeds=[0, 1], cells=cells
    )
    tuned = text.split("### Each method at its best learning rate, chosen on task text-validation")[1].split("## ")[0]
    shown = [line.split(" | ")[:5] for line in tuned.splitlines() if line.startswith(("| LoRA", "| PiSSA"))]
    assert [(cells[0], cells[4]) for cells in shown] == [("| LoRA", "0.002"), ("| PiSSA", "2e-05")]


def test_ratings_are_points_of_10_with_the_first_turn_beside(tmp_path, config):
    rows, text = run(tmp_path, with_tasks(config, "mt_bench", "questions"), table="mt_bench", scored=rated)
    assert {(row["unit"], row["second_metric"], row["n"]) for row in rows} == {("points of 10", "turn_1", "80")}
    assert all(1 <= float(row["score_mean"]) <= 10 and 1 <= float(row["second_mean"]) <= 10 for row in rows)
    assert "| score, points of 10 | turn_1, points of 10 | difference, points of 10 |" in text
    assert "higher is better" in text and "answer rule" not in text


def test_the_second_metric_has_its_own_name(tmp_path, config):
    rows, text = run(tmp_path, with_tasks(config, "math", "MATH"), table="math", scored=verified, seeds=[0, 1])
    assert {(row["unit"], row["second_metric"], row["second_mean"]) for row in rows} == {
        ("percent", "math_verify", "100")
    }
    assert "| accuracy, % | math_verify, % | difference, points |" in text
    assert "strict" not in text


def test_a_second_metric_that_some_seeds_lack_is_left_empty(tmp_path, config):
    arguments = make(
        tmp_path, config, only=lambda row: (row["method"], row["seed"], row["metric"]) != ("pissa", 1, "strict")
    )
    stage_table.main(arguments)
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        found = {
            row["method"]: (row["second_metric"], row["second_mean"], row["second_std"]) for row in csv.DictReader(file)
        }
    assert found["PiSSA"] == found["QPiSSA"] == ("", "", "")
    assert found["LoRA"][0] == "strict" and all(found["LoRA"])


def test_eight_sets_are_eight_blocks_without_an_average(tmp_path, config):
    changed = with_tasks(config, "commonsense", *SETS)
    rows, text = run(tmp_path, changed, table="commonsense", seeds=[0, 1])
    assert [row["task"] for row in rows] == [name for name in SETS for _ in range(6)]
    assert [line.partition("scored on ")[2] for line in text.splitlines() if line.startswith("## ")] == [
        f"{name} (task {name})" for name in SETS
    ]
    assert text.count("| accuracy, % | strict, % |") == 8
    assert text.count("Final loss: mean over the last tenth") == 1
    assert "average" not in text.replace("on average", "").lower()


@pytest.mark.parametrize("file", task_files.names())
def test_every_task_file_makes_a_table_that_says_its_unit(file, tmp_path, config):
    """Each has a fraction of 0.25 and one of 0.75 by `paper`; only percentages are multiplied."""

    def halves(cell, task):
        values = [0.25, 0.75] * 10
        return {"paper": (values, 0.5)}

    rows, text = run(tmp_path, with_tasks(config, file, "items"), table=file, scored=halves, seeds=[0])
    unit = task_files.metadata(file)["unit"]
    assert {(row["unit"], float(row["score_mean"])) for row in rows} == {(unit, 50.0 if unit == "percent" else 0.5)}
    assert ("| accuracy, % |" if unit == "percent" else f"| score, {unit} |") in text
    assert {row["second_metric"] for row in rows} == {""}


def test_published_ratings_are_shown_and_never_compared(tmp_path):
    paper = with_tasks(load(ROOT / "config/config.yaml", ROOT / "config/paper.yaml"), "mt_bench", "questions")
    paper["datasets"]["metamath-100k"]["paper"] = "wizardlm-100k"
    paper["tasks"]["questions"]["paper"] = "mt_bench"
    cells = [{"method": name, "quant": "none"} for name in ("full", "lora", "pissa")]
    rows, text = run(tmp_path, paper, table="mt_bench", scored=rated, models=["llama-2-7b"], cells=cells)
    assert [(row["paper_value"], row["paper_std"]) for row in rows] == [
        ("4.91", "0.01"),
        ("4.56", "0.04"),
        ("4.88", "0.03"),
    ]
    assert {row["verdict"] for row in rows} == {"not comparable"}
    assert "| paper, points of 10 | verdict |" in text
