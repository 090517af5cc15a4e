"""Results of others below a sweep's rows: what is read, what is refused, and that nothing is compared with them."""

import copy
import json

import pytest
from stage import says
from tabled import make, run

from pissa_repro.plan import config as configs
from pissa_repro.plan import elsewhere
from pissa_repro.plan.checked import checked
from pissa_repro.stages import table as stage_table

HUB = "meta-llama/Llama-3.2-3B"


def peft(name="lora/rank32", score=0.48, **changes):
    """A result as method_comparison writes it (huggingface/peft, MetaMathQA/results); the numbers are invented."""
    return {
        "run_info": {
            "created_at": "2025-06-19T19:15:35+00:00", "experiment_name": name, "peft_branch": "main",
            "train_config": {"model_id": HUB, "seed": 0, "optimizer_kwargs": {"lr": 1e-4}},
            "peft_config": {"peft_type": "LORA", "r": 32, "lora_alpha": 64}, "error_msg": "",
        },
        "train_info": {
            "cuda_memory_max": 2 * 2**30, "train_time": 1796.2, "num_trainable_params": 9175040, "status": "success",
            "metrics": [
                {"step": 250, "valid accuracy": 0.34, "train loss": 0.98},
                {"step": 5000, "test accuracy": score, "train loss": 0.61, "train samples": 20000},
            ],
        },
        "meta_info": {"package_info": {"peft-version": "0.15.2.dev0"}},
    } | changes  # fmt: skip


STUDY = {
    "metamath": {
        "pissa": [
            {"hyparam": {"batch_size": 64, "lr": 2e-5, "rank": 128, "epoch": 1}, "acc-1": {"gsm8k": 0.5, "math": 0.2}},
            {
                "hyparam": {"batch_size": 64, "lr": 2e-5, "rank": 128, "epoch": 1},
                "acc-2": {"gsm8k": [0.6], "math": 0.2},
            },
            {"hyparam": {"batch_size": 64, "lr": 2e-4, "rank": 128, "epoch": 1}, "acc-1": {"gsm8k": 0.1, "math": 0.0}},
        ]
    }
}


def defined(config, path, format="peft", /, **changes):
    """The config with results of others beside its only model, dataset and task."""
    given = {"path": str(path), "format": format, "source": "huggingface/peft 0a179c1", "model": "mini-llama",
             "dataset": "gsm-mini-train", "task": "gsm-mini"}  # fmt: skip
    return copy.deepcopy(config) | {"elsewhere": {"theirs": given | changes}}


@pytest.fixture
def folder(tmp_path):
    """A folder with two results of PEFT's, and one of a run that failed."""
    place = tmp_path / "theirs"
    place.mkdir()
    failed = peft("oft/rank32")
    failed["train_info"] |= {"status": "failed", "metrics": []}
    full = peft("full-finetuning/lr_0.00001", 0.5)
    full["run_info"] |= {"peft_config": None}
    full["train_info"]["accelerator_memory_max"] = full["train_info"].pop("cuda_memory_max")
    for name, result in {"lora": peft(), "full": full, "oft": failed}.items():
        (place / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")
    return place


def test_they_stand_below_the_sweeps_rows_and_change_none(tmp_path, config, folder):
    alone, text = run(tmp_path / "alone", config)
    rows, both = run(tmp_path / "both", defined(config, folder))
    assert rows[: len(alone)] == alone and len(rows) == len(alone) + 2
    theirs = {row["method"]: row for row in rows[len(alone) :]}
    lora = theirs["lora/rank32 (elsewhere)"]
    expected = {"score_mean": "48", "rank": "32", "learning_rate": "0.0001", "seeds": "1", "peak_memory_gib": "2"}
    assert {key: lora[key] for key in expected} == expected
    assert lora["verdict"] == "not comparable" and "huggingface/peft 0a179c1, lora.json; unpaired" in lora["note"]
    unknown = ("n", "score_std", "score_stderr_items", "paper_value", "diff_to_lora", "diff_verdict", "commit", "dirty")
    assert not any(lora[key] for key in unknown), "what the file does not say is empty"
    assert theirs["full-finetuning/lr_0.00001 (elsewhere)"]["rank"] == ""
    own, _, part = both.partition("### Elsewhere: huggingface/peft 0a179c1")
    assert text.startswith(own.rstrip()) and "| lora/rank32 (elsewhere) | 32 | 0.0001 | 9,175,040 |" in part
    assert "no difference can be paired" in part and "Runs without a score: oft/rank32: failed." in part


def test_a_study_of_rates_is_read_over_its_trials(tmp_path, config):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(STUDY), encoding="utf-8")
    found = elsewhere.read(defined(config, path, "rate-study", metric="gsm8k"), "theirs").runs
    assert [(one.method, one.rank, one.learning_rate, one.scores) for one in found] == [
        ("pissa, batch 64, 1 epoch", 128, 2e-5, (0.5, 0.6)),
        ("pissa, batch 64, 1 epoch", 128, 2e-4, (0.1,)),
    ]
    place = "config.elsewhere.theirs"
    says(lambda: elsewhere.read(defined(config, path, "rate-study"), "theirs"), place, "give 'metric'")
    wrong = defined(config, path, "rate-study", metric="gsm8")
    says(lambda: elsewhere.read(wrong, "theirs"), place, "unknown metric 'gsm8'. Did you mean 'gsm8k'")
    twice = copy.deepcopy(STUDY)
    twice["metamath"]["pissa"].append(STUDY["metamath"]["pissa"][0])
    path.write_text(json.dumps(twice), encoding="utf-8")
    asked = defined(config, path, "rate-study", metric="gsm8k")
    says(lambda: elsewhere.read(asked, "theirs"), place, "trial 1 of pissa at rate 2e-05 is there twice")


def without(*names):
    result = peft()
    inner = result
    for name in names[:-1]:
        inner = inner[name]
    del inner[names[-1]]
    return json.dumps(result)


BAD = {
    "not JSON": ("{", "is no JSON"),
    "NaN": (json.dumps(peft(score=float("nan"))), "is no JSON of finite numbers (it holds NaN)"),
    "a list": ("[1]", "holds a list"),
    "in percent": (json.dumps(peft(score=48.2)), "'test accuracy' is 48.2; a score is a fraction of 1"),
    "a text for a number": (json.dumps(peft(score="0.5")), "'test accuracy' is '0.5', which is not a number"),
    "no name": (without("run_info", "experiment_name"), "'run_info.experiment_name' is missing"),
    "no status": (without("train_info", "status"), "'train_info.status' is missing"),
    "no metrics": (without("train_info", "metrics"), "'train_info.metrics' is no list"),
    "no model": (without("run_info", "train_config", "model_id"), "'run_info.train_config.model_id' is missing"),
    "another format": (json.dumps(STUDY), "Is it a result of PEFT's method_comparison, of a version that is known?"),
    "deep": ("[" * 100_000, "is no JSON"),
    "huge": (" " * (16 * 2**20 + 1), "16,777,217 bytes; 16,777,216 is the most"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_stops_the_dry_run_with_its_name(tmp_path, config, kind):
    text, words = BAD[kind]
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    says(lambda: checked(defined(config, path)), "config.elsewhere.theirs: ", str(path), words)


def test_a_run_that_is_there_twice_is_refused_with_both_files(config, folder):
    (folder / "again.json").write_text(json.dumps(peft()), encoding="utf-8")
    asked = defined(config, folder)
    says(lambda: checked(asked), "'lora/rank32' is in", "again.json and again in", "lora.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "mini"}, "config.elsewhere.theirs.model: unknown model 'mini'. Did you mean 'mini-llama'"),
        ({"task": "gsm"}, "config.elsewhere.theirs.task: unknown task 'gsm'"),
        ({"format": "peff"}, "config.elsewhere.theirs.format: 'peff' is not one of ['peft', 'rate-study']"),
        ({"of": "x"}, "config.elsewhere.theirs: unknown key 'of'"),
        ({"path": "no/such"}, "config.elsewhere.theirs.path: no such file or folder 'no/such'"),
    ],
)
def test_a_bad_definition_is_refused(config, folder, changes, words):
    says(lambda: checked(defined(config, folder, **changes)), words)


def test_the_model_of_the_files_is_that_of_the_config(config, folder):
    asked = defined(config, folder)
    asked["models"]["mini-llama"] = {"hub": "meta-llama/Llama-2-7b-hf", "revision": "main"}
    says(lambda: elsewhere.read(asked, "theirs"), f"is of {HUB}", "meta-llama/Llama-2-7b-hf")
    asked["models"]["mini-llama"]["hub"] = HUB
    assert len(elsewhere.read(asked, "theirs").runs) == 2


def test_accuracies_do_not_stand_below_nats(config, folder):
    asked = defined(config, folder, task="text")
    asked["datasets"]["text"] = {"path": "t.jsonl", "fields": {"text": "text"}}
    asked["tasks"]["text"] = {"task": "perplexity", "dataset": "text", "max_new_tokens": 1}
    says(lambda: configs.check(asked), "config.elsewhere.theirs.task", "nats per token")


def test_what_is_not_swept_is_neither_read_nor_shown(tmp_path, config, folder):
    asked = defined(config, folder)
    asked["datasets"]["other"] = asked["datasets"]["gsm-mini-train"]
    asked["elsewhere"]["theirs"] |= {"dataset": "other", "path": "no/such"}
    stage_table.main(make(tmp_path / "out", asked))
    assert "elsewhere" not in (tmp_path / "out/out.md").read_text(encoding="utf-8")
