"""The table stage on a results folder made by hand: every number here is invented for the test."""

import copy
import csv
import json

import numpy as np
import pytest

from pissa_repro import tasks as task_files
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.sweep import COLUMNS
from pissa_repro.results import stats
from pissa_repro.results.table import COLUMNS as SCORES
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import canonical
from pissa_repro.stages import table as stage_table

ITEMS = 200
RIGHT = {  # share of right answers, invented: (method, quant) -> share
    ("full", "none"): 0.50, ("lora", "none"): 0.40, ("pissa", "none"): 0.60,
    ("lora", "nf4"): 0.40, ("loftq", "nf4"): 0.40, ("pissa", "nf4"): 0.20,
}  # fmt: skip
LOSS = {
    ("full", "none"): 0.5, ("lora", "none"): 0.6, ("pissa", "none"): 0.4,
    ("lora", "nf4"): 0.7, ("loftq", "nf4"): 0.7, ("pissa", "nf4"): 0.8,
}  # fmt: skip


@pytest.fixture(scope="module")
def config():
    return load(ROOT / "config/config.yaml")


def answers(cell, task=None):
    """Scores (items,) of a cell: item i is right if its difficulty is below the share; a little noise by seed."""
    rng = np.random.default_rng([cell.seed, *cell.method.encode()])
    share = RIGHT[cell.method, cell.quant] + 0.01 * cell.seed
    return (np.arange(ITEMS) / ITEMS + rng.normal(0, 0.02, ITEMS) < share).astype(float)


def facts_of(sweep, cell):
    """The columns of scores.csv that the tasks of a cell share."""
    identity = {key: getattr(cell, key) for key in "model data method quant rank learning_rate seed".split()}
    return identity | {
        "cell": cell.name,
        "display": sweep.display(cell),
        "final_loss": LOSS[cell.method, cell.quant] + 0.001 * cell.seed,
        "trainable_parameters": 1000 * (cell.rank or 99),
        "error_reduction": {"lora": 0.0, "loftq": 5.0, "pissa": 15.5}[cell.method] if cell.quant == "nf4" else None,
        "train_seconds": 10 + cell.seed,
        "memory_bytes": 2**30 * (1 + cell.seed),
        "gpu_memory_bytes": None,
        "commit": "c0ffee",
        "dirty": False,
    }


def scored(cell, task):
    """What the task file gives for a cell: {metric: (what each item's sample holds, the score)}."""
    paper = answers(cell, task)
    strict = paper * (np.arange(ITEMS) % 10 > 0)
    return {"paper": (paper.tolist(), paper.mean()), "strict": (strict.tolist(), strict.mean())}


def make(folder, config, only=lambda row: True, table="gsm8k", scored=scored, **changes):
    """Write a results folder of a config: samples and scores.csv. Returns the stage's arguments."""
    config = copy.deepcopy(config)
    config["sweep"] |= changes
    sweep = Sweep(config)
    rows = []
    for cell in sweep.cells.values():
        for task in config["sweep"]["tasks"]:
            metrics = scored(cell, task)
            path = folder / "cells" / cell.name / "eval" / f"{task}.samples.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = [
                {"id": i, "prompt": f"q{i}", "target": "1", "generated": ""} | dict(zip(metrics, values, strict=True))
                for i, values in enumerate(zip(*(values for values, _ in metrics.values()), strict=True))
            ]
            path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
            for metric, (_, value) in metrics.items():
                score = {"task": task, "metric": metric, "value": value, "stderr": 0.03, "n": len(samples)}
                rows.append(facts_of(sweep, cell) | score | {"record": str(path)})
    with open(folder / "scores.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, SCORES)
        writer.writeheader()
        writer.writerows(row for row in rows if only(row))
    return [
        "--config", canonical(sweep.config), "--scores", str(folder / "scores.csv"), "--results", str(folder),
        "--table", table, "--out", str(folder / "out.csv"), "--markdown", str(folder / "out.md"),
    ]  # fmt: skip


def run(folder, config, **changes):
    """The rows of the CSV as text, and the Markdown."""
    stage_table.main(make(folder, config, **changes))
    with open(folder / "out.csv", newline="") as file:
        return list(csv.DictReader(file)), (folder / "out.md").read_text()


@pytest.fixture(scope="module")
def embedded(tmp_path_factory, config):
    return run(tmp_path_factory.mktemp("embedded"), config)


def test_one_row_a_method_in_the_configs_order(embedded):
    rows, _ = embedded
    assert list(rows[0]) == list(COLUMNS)
    assert [row["method"] for row in rows] == ["full FT", "LoRA", "PiSSA", "QLoRA", "LoftQ", "QPiSSA"]
    assert [row["rank"] for row in rows] == ["", "16", "16", "16", "16", "16"]
    assert {(row["seeds"], row["n"], row["learning_rate"], row["task"]) for row in rows} == {
        ("3", "200", "0.003", "gsm-mini")
    }


def test_seeds_are_aggregated(embedded, config):
    row = embedded[0][2]
    sweep = Sweep(config)
    scores = np.stack([answers(c) for c in sweep.cells.values() if (c.method, c.quant) == ("pissa", "none")])
    means = 100 * scores.mean(axis=1)
    assert float(row["score_mean"]) == pytest.approx(means.mean(), rel=1e-5)
    assert float(row["score_std"]) == pytest.approx(means.std(ddof=1), rel=1e-5)
    assert float(row["score_stderr_items"]) == pytest.approx(100 * stats.stderr_items(scores), rel=1e-5)
    assert float(row["second_mean"]) < float(row["score_mean"])
    assert (float(row["final_loss_mean"]), float(row["final_loss_std"])) == pytest.approx((0.401, 0.001))
    assert (row["train_seconds_mean"], row["peak_memory_gib"]) == ("11", "3")
    assert (row["trainable_parameters"], row["commit"], row["dirty"]) == ("16000", "c0ffee", "False")


def test_each_row_is_compared_with_lora_on_its_own_base(embedded):
    rows, _ = embedded
    assert [row["diff_verdict"] for row in rows] == ["better", "", "better", "", "no difference shown", "worse"]
    means = {row["method"]: float(row["score_mean"]) for row in rows}
    for method, base in (("full FT", "LoRA"), ("PiSSA", "LoRA"), ("LoftQ", "QLoRA"), ("QPiSSA", "QLoRA")):
        row = next(row for row in rows if row["method"] == method)
        assert float(row["diff_to_lora"]) == pytest.approx(means[method] - means[base], abs=1e-3)
        assert float(row["diff_low"]) <= float(row["diff_to_lora"]) <= float(row["diff_high"])


def test_missing_numbers_are_empty_and_zero_is_zero(embedded):
    rows, _ = embedded
    assert [row["error_reduction_percent"] for row in rows] == ["", "", "", "0", "5", "15.5"]
    for row in rows:
        assert (row["paper_value"], row["paper_std"], row["verdict"]) == ("", "", "not comparable")
        assert row["note"] == "gsm-mini (generated) is not a benchmark of the paper"


def test_the_markdown_says_what_the_data_say(embedded):
    _, text = embedded
    assert "- PiSSA against LoRA (rank 16): accuracy +" in text
    assert "better; final loss lower by 0.2000 on average, lower in 3 of 3 seeds." in text
    assert "- QPiSSA against QLoRA (rank 16, nf4): accuracy -" in text
    assert "worse; final loss higher by 0.1000 on average, lower in 0 of 3 seeds." in text
    assert "final loss equal to four digits on average" in text
    assert "No published numbers beside these: gsm-mini (generated) is not a benchmark of the paper." in text
    assert "200 items of gsm-mini (generated)" in text
    assert "paired bootstrap over items and seeds, widened for few seeds." in text
    assert "| verdict |" not in text
    assert "None" not in text
    assert "nan" not in text


def test_columns_without_an_error_over_items_are_named(embedded, tmp_path, config):
    assert "Without an error over items: strict, error reduction, time." in embedded[1]
    _, text = run(tmp_path, config, seeds=[0], cells=[{"method": "pissa", "quant": "none"}])
    assert "Without an error over items: strict, time." in text


def test_the_grid_is_a_rectangle(embedded):
    lines = [line for line in embedded[1].splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 6
    assert len({line.count("|") for line in lines}) == 1


def test_the_table_goes_to_stdout_and_a_second_run_writes_the_same_bytes(tmp_path, config, capsys):
    arguments = make(tmp_path, config, seeds=[0, 1])
    stage_table.main(arguments)
    first = (tmp_path / "out.csv").read_bytes(), (tmp_path / "out.md").read_bytes()
    assert capsys.readouterr().out.strip() == first[1].decode().strip()
    stage_table.main(arguments)
    assert ((tmp_path / "out.csv").read_bytes(), (tmp_path / "out.md").read_bytes()) == first


def test_one_seed_has_no_spread_and_says_so(tmp_path, config):
    rows, text = run(tmp_path, config, seeds=[0])
    assert {(row["score_std"], row["final_loss_std"], row["second_std"]) for row in rows} == {("", "", "")}
    assert "±" not in text
    assert "One seed: the spread over seeds is not measured." in text
    assert "paired bootstrap over items." in text


def test_full_fine_tuning_is_compared_with_the_largest_rank(tmp_path, config):
    rows, text = run(tmp_path, config, ranks=[2, 8, 4], seeds=[0])
    assert [row["rank"] for row in rows if row["method"] == "LoRA"] == ["2", "8", "4"]
    assert sum(row["method"] == "full FT" for row in rows) == 1
    assert "- full FT against LoRA (of rank 8):" in text
    assert "- PiSSA against LoRA (rank 2):" in text


def test_each_learning_rate_has_its_own_part_and_none_is_chosen_on_the_test(tmp_path, config):
    rows, text = run(tmp_path, config, learning_rates=[2e-3, 2e-5], seeds=[0])
    assert len(rows) == 12
    assert text.index("### At the paper's learning rate, 2e-05") < text.index("### At learning rate 0.002")
    assert text.count("- PiSSA against LoRA") == 2
    assert 'There is no part "each method at its best learning rate"' in text
    assert "chosen on task" not in text


def test_a_validation_task_chooses_each_methods_rate(tmp_path, config, monkeypatch):
    """On validation items LoRA is best at the large rate, PiSSA at the small one; the test items say the opposite."""
    best = {"lora": 2e-3, "pissa": 2e-5}

    def invented(cell, task="gsm-mini"):
        good = (cell.learning_rate == best[cell.method]) == task.endswith("-validation")
        return (np.arange(ITEMS) < (150 if good else 50) + (cell.method == "lora")).astype(float)

    monkeypatch.setitem(globals(), "answers", invented)
    changed = copy.deepcopy(config)
    changed["tasks"]["gsm-mini-validation"] = changed["tasks"]["gsm-mini"]
    cells = [{"method": name, "quant": "none"} for name in best]
    tasks = ["gsm-mini", "gsm-mini-validation"]
    rows, text = run(tmp_path, changed, learning_rates=[2e-3, 2e-5], seeds=[0, 1], cells=cells, tasks=tasks)
    assert len(rows) == 8
    tuned = text.split("### Each method at its best learning rate, chosen on task gsm-mini-validation")[1].split("## ")[
        0
    ]
    shown = [line.split(" | ")[:7] for line in tuned.splitlines() if line.startswith(("| LoRA", "| PiSSA"))]
    assert [(cells[0], cells[3], cells[6]) for cells in shown] == [
        ("| LoRA", "0.002", "25.50 ± 0.00"),
        ("| PiSSA", "2e-05", "25.00 ± 0.00"),
    ]
    assert "- PiSSA against LoRA (rank 16, at rate 2e-05 against 0.002): accuracy -0.50 points" in tuned
    assert "own learning rate" in tuned
    assert "There is no part" not in text


def test_without_lora_there_is_no_difference(tmp_path, config):
    rows, text = run(tmp_path, config, cells=[{"method": "pissa", "quant": "none"}], seeds=[0, 1])
    assert (rows[0]["diff_to_lora"], rows[0]["diff_verdict"]) == ("", "")
    assert "against" not in text.split("score_stderr_items")[0]


def test_the_reference_is_plain_lora_whatever_its_name(tmp_path, config):
    changed = copy.deepcopy(config)
    changed["methods"] = {"lora": {"init": "pissa"}, "full": {"init": "lora", "display": "mine"}}
    changed["methods"]["pissa"] = {"init": "lora", "lora": {"use_dora": True}, "display": "DoRA"}
    cells = [{"method": name, "quant": "none"} for name in ("full", "lora", "pissa")]
    rows, _ = run(tmp_path, changed, cells=cells, seeds=[0, 1])
    assert [row["method"] for row in rows] == ["mine", "PiSSA", "DoRA"]
    assert [bool(row["diff_verdict"]) for row in rows] == [False, True, True]


def test_on_the_papers_benchmark_the_published_numbers_are_shown(tmp_path):
    paper = load(ROOT / "config/config.yaml", ROOT / "config/paper.yaml")
    rows, text = run(tmp_path, paper, models=["llama-2-7b"], seeds=[0, 1])
    assert [row["paper_value"] for row in rows] == ["49.13", "43.23", "53.22", "39.8", "40.71", "49.13"]
    assert [row["paper_std"] for row in rows] == ["0.21", "0.64", "0.55", "", "", ""]
    assert {row["verdict"] for row in rows} == {"not comparable"}  # 200 items are not GSM8K
    assert "200 items, the benchmark has 1319" in rows[0]["note"]
    assert "| paper, % | verdict |" in text
    assert "### At the paper's learning rate, 2e-05" in text


def test_a_missing_score_is_refused(tmp_path, config):
    arguments = make(tmp_path, config, only=lambda row: (row["method"], row["seed"]) != ("loftq", 1))
    with pytest.raises(UserError, match=r"no 'paper' score of .*loftq-nf4-r16-lr0.003-s1 on gsm-mini"):
        stage_table.main(arguments)
    assert not (tmp_path / "out.csv").exists()


def test_samples_of_another_run_are_refused(tmp_path, config):
    arguments = make(tmp_path, config, seeds=[0])
    path = next(tmp_path.glob("cells/*/*/pissa-none-*/eval/*.samples.jsonl"))
    path.write_text(path.read_text().replace('"paper": 0.0', '"paper": 1.0', 1))
    with pytest.raises(UserError, match="do not give the score"):
        stage_table.main(arguments)


def test_other_items_are_refused_and_both_cells_named(tmp_path, config):
    arguments = make(tmp_path, config, seeds=[0])
    path = next(tmp_path.glob("cells/*/*/pissa-none-*/eval/*.samples.jsonl"))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r"pissa-none-.* \(199 items\) and .*full-none-.* \(200\)"):
        stage_table.main(arguments)


@pytest.mark.parametrize("missing", ["scores.csv", "cells"])
def test_missing_files_are_named(tmp_path, config, missing):
    arguments = make(tmp_path, config, seeds=[0])
    (tmp_path / missing).rename(tmp_path / "away")
    with pytest.raises(UserError, match="no such"):
        stage_table.main(arguments)


def test_an_unknown_table_names_those_that_exist(tmp_path, config):
    arguments = make(tmp_path, config, seeds=[0])
    arguments[arguments.index("gsm8k")] = "math"
    with pytest.raises(UserError, match="Tables of this sweep: gsm8k"):
        stage_table.main(arguments)


# -- other tasks, units and metrics

SETS = ["boolq", "piqa", "social_i_qa", "hellaswag", "winogrande", "ARC-Easy", "ARC-Challenge", "openbookqa"]
CHUNKS = 20


def with_tasks(config, file, *names):
    """The config with tasks of these names that use a task file, and no others swept; a dataset for each."""
    config = copy.deepcopy(config)
    fields = dict.fromkeys(task_files.metadata(file)["fields"], "column")
    for name in names:
        config["datasets"][name] = {"path": "rows.jsonl", "fields": fields}
        config["tasks"][name] = {"task": file, "dataset": name, "max_new_tokens": 8}
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
    shown = [line.split(" | ")[:4] for line in tuned.splitlines() if line.startswith(("| LoRA", "| PiSSA"))]
    assert [(cells[0], cells[3]) for cells in shown] == [("| LoRA", "0.002"), ("| PiSSA", "2e-05")]


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
    with open(tmp_path / "out.csv", newline="") as file:
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
