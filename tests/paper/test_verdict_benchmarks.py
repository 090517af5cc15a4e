"""Verdicts on the benchmarks beside GSM8K."""

import copy

import pytest
from verdicts import verdict

from pissa_repro import tasks
from pissa_repro.paper import published


def linked(config, benchmark, tokens=1024, **fields):
    """The config with the task of a benchmark, trained on the paper's data for it."""
    changed = copy.deepcopy(config)
    changed["datasets"]["metamath-100k"]["paper"] = data = published.TRAINED_ON[benchmark]
    if data != published.MATHS:
        del changed["datasets"]["metamath-100k"]["rows"]
        changed["train"]["steps"] = published.STEPS.get(data)
    needed = dict.fromkeys(tasks.metadata(benchmark)["fields"], "column")
    changed["datasets"]["items"] = {"path": "items.jsonl", "fields": needed | fields}
    changed["tasks"][benchmark] = {
        "task": benchmark, "dataset": "items", "max_new_tokens": tokens, "paper": benchmark
    }  # fmt: skip
    changed["sweep"]["tasks"] = [benchmark]
    return changed


@pytest.mark.parametrize(
    ("benchmark", "n", "mean", "word"),
    [
        ("math", 5000, 7.47, "equivalent within 2 points"),
        ("humaneval", 164, 21.92, "undecided"),
        ("mbpp", 378, 37.24, "undecided"),
        ("mbpp", 399, 37.24, "undecided"),
    ],
)
def test_the_other_benchmarks_have_verdicts(config, benchmark, n, mean, word):
    ours = {"n": n, "stderr": (mean * (100 - mean) / n) ** 0.5, "task": benchmark}
    found = verdict(linked(config, benchmark), mean=mean + 0.1, **ours)
    assert (found.value, found.verdict) == (mean, f"{word}, as declared in the config")
    assert "v4 Table 2" in found.note and "new tokens" not in found.note
    assert verdict(linked(config, benchmark), mean=mean + 15, **ours).verdict == "differs, as declared in the config"
    assert ("the published score alone is known to" in found.note) == (word == "undecided")


@pytest.mark.parametrize(
    ("benchmark", "n", "size"), [("math", 500, "5000"), ("humaneval", 100, "164"), ("mbpp", 500, "378 or 399")]
)
def test_part_of_a_benchmark_or_another_one_is_not_comparable(config, benchmark, n, size):
    found = verdict(linked(config, benchmark), n=n, task=benchmark)
    assert found.verdict == "not comparable"
    assert f"{n} items, the benchmark has {size};" in found.note


@pytest.mark.parametrize(
    ("benchmark", "n", "tokens", "remark"),
    [
        ("math", 5000, 1024, None),
        ("math", 5000, 2048, None),
        ("math", 5000, 512, "512 new tokens here, 1024 in the released script, 2048 in the older one"),
        ("humaneval", 164, 2048, "2048 new tokens here, 1024 in the released script"),
    ],
)
def test_how_many_new_tokens_the_released_scripts_had(config, benchmark, n, tokens, remark):
    found = verdict(linked(config, benchmark, tokens=tokens), n=n, task=benchmark)
    said = [part.split(":")[0] for part in found.note.split("; ") if "new tokens" in part]
    assert said == ([remark] if remark else [])


def test_a_verdict_on_programs_says_what_is_not_known(config):
    humaneval = verdict(linked(config, "humaneval"), n=164, task="humaneval")
    mbpp = verdict(linked(config, "mbpp"), n=378, task="mbpp")
    assert "the paper's prompts are in a file that was not seen" in humaneval.note
    assert "the paper's prompts are in a file that was not seen" in mbpp.note
    assert "does not say which MBPP of evalplus" in mbpp.note and "evalplus:" not in humaneval.note


def test_the_tests_of_mbpp_plus_are_not_the_papers(config):
    found = verdict(linked(config, "mbpp", test="test"), n=378, task="mbpp")
    assert (found.verdict, found.value) == ("not comparable", 37.24)
    assert "scored by the tests of MBPP+, the paper by those of MBPP" in found.note


@pytest.mark.parametrize("mean", [4.88, 1.0])
def test_ratings_are_never_comparable_but_shown(config, mean):
    found = verdict(linked(config, "mt_bench"), mean=mean, stderr=0.2, n=80, task="mt_bench")
    assert (found.value, found.std, found.verdict) == (4.88, 0.03, "not comparable")
    assert found.note.startswith("the judge, the words to it and greedy answers are not the paper's")
    assert "v4 Table 2" in found.note
