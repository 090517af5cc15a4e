"""Parts of one's own data: ranges and seeded shares that have no prompt in common, and prompts that were trained on."""

import copy
import json
import random

import pytest
import yaml
from stage import FIELDS, says

from pissa_repro.plan.config import ROOT, check
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime.record import read_lines, write_lines
from pissa_repro.sources.fetched import fetch_dataset
from pissa_repro.sources.split import seen_in_training

PLAIN = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
COUNT = 2000


def config(**datasets):
    """The default config with more datasets."""
    changed = copy.deepcopy(PLAIN)
    changed["datasets"] |= datasets
    return changed


def parts(path, **extra):
    """Datasets of a file: a tenth, what it leaves, a fifth of that, and the rest."""
    return {
        "all": {"path": str(path), "fields": FIELDS},
        "test": {"of": "all", "share": 0.1},
        "others": {"of": "all", "without": "test"},
        "validation": {"of": "others", "share": 0.2},
        "train": {"of": "others", "without": "validation"},
        **extra,
    }


def sources(datasets):
    """What is fetched for each dataset."""
    sweep = Sweep(config(**datasets))
    return {name: sweep.data_spec(name)["dataset"] for name in datasets}


def prompts(source):
    return [row["prompt"] for row in fetch_dataset(source)[0]]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A file of one's own: 2,000 questions, every fourth twice, the second time with other blank space."""
    path = tmp_path_factory.mktemp("own") / "own.jsonl"
    rows = [{"question": f"What is {n} + 1?", "answer": f"{n + 1}"} for n in range(COUNT)]
    rows += [row | {"question": f" {row['question'].replace(' ', '  ')}\n"} for row in rows[::4]]
    random.Random(0).shuffle(rows)
    write_lines(path, rows)
    return path


@pytest.fixture(scope="module")
def split(own):
    return {name: prompts(source) for name, source in sources(parts(own)).items()}


def test_the_sides_of_a_split_share_no_text_and_lose_no_row(split):
    """Case 21: also where a prompt stands twice; a share of a share is neither empty nor all."""
    text = {name: {" ".join(prompt.split()) for prompt in side} for name, side in split.items()}
    sides = ("test", "validation", "train")
    assert sorted(prompt for side in sides for prompt in split[side]) == sorted(split["all"])
    assert len(set.union(*(text[side] for side in sides))) == sum(len(text[side]) for side in sides) == COUNT
    assert sorted(split["others"]) == sorted(split["validation"] + split["train"])
    # four standard deviations of a share of 2,000 draws (1,800 for the second)
    assert abs(len(text["test"]) - 200) < 54 and abs(len(text["validation"]) - 360) < 75


def test_a_share_is_drawn_by_text_and_seed_alone(own, split, tmp_path):
    """Case 21: order and other rows move no row; the file's order is kept; another seed draws others."""
    rows = read_lines(own)
    assert split["test"] == [row["question"] for row in rows if row["question"] in set(split["test"])]
    path = tmp_path / "turned.jsonl"
    write_lines(path, [{"question": "One more?", "answer": "1"}, *reversed(rows)])
    turned = prompts(sources(parts(path))["test"])
    assert [prompt for prompt in turned if prompt != "One more?"] == split["test"][::-1]
    seeded = {"all": {"path": str(own), "fields": FIELDS}, "s": {"of": "all", "share": 0.1, "seed": 1}}
    other = set(prompts(sources(seeded)["s"]))
    assert len(other & set(split["test"])) < 0.3 * len(other)


def test_which_side_a_text_falls_on_is_fixed(tmp_path):
    """Case 21: SHA-256 of "seed depth text"; a split that moved between versions would train on what it tested."""
    path = tmp_path / "few.jsonl"
    write_lines(path, [{"question": f"q{n}", "answer": "a"} for n in range(20)])
    datasets = parts(path, s={"of": "all", "share": 0.25, "seed": 7})
    assert prompts(sources(datasets)["s"]) == ["q5", "q10", "q11"]  # by sha256sum in a shell


def test_a_range_takes_both_ends(own):
    """Case 21: `rows: 5-9` are five rows, counted from 0; of a part they are those of the part."""
    whole = prompts({"path": str(own), "fields": FIELDS})
    assert prompts({"path": str(own), "fields": FIELDS, "rows": "5-9"}) == whole[5:10]
    assert prompts({"path": str(own), "fields": FIELDS, "rows": "0-0"}) == whole[:1]
    found = sources(parts(own, some={"of": "all", "without": "test", "rows": "1-2"}, few={"of": "test", "share": 0.5}))
    assert prompts(found["some"]) == prompts(found["others"])[1:3]
    assert 0 < len(prompts(found["few"])) < len(prompts(found["test"]))
    says(lambda: prompts({"path": str(own), "fields": FIELDS, "rows": "10-2500"}), "rows 10-2500", "has 2500")
    ranges = [fetch_dataset({"path": "embedded:test", "fields": FIELDS, "rows": rows})[0] for rows in (12, "8-11")]
    assert ranges[0][8:] == ranges[1]


def test_a_part_may_be_formed_otherwise(tmp_path):
    """Case 21: the rows that train and those that are scored need two forms, and fall on the same sides."""
    path = tmp_path / "sums.jsonl"
    write_lines(path, [{"question": f"{n} + 1", "answer": f"#### {n + 1}"} for n in range(30)])
    shares = {"of": "all", "share": 0.5}
    found = sources(parts(path, plain=shares, formed=shares | {"response_format": "gsm8k"}))
    plain, formed = (fetch_dataset(found[name])[0] for name in ("plain", "formed"))
    assert [row["prompt"] for row in plain] == [row["prompt"] for row in formed]
    assert formed[0]["response"] == plain[0]["response"].replace("#### ", "\nThe answer is: ")


def test_what_a_part_is_decides_and_not_its_name(own):
    """Case 21: its spec holds the file and what is taken of it."""
    wanted = {"path": str(own), "fields": FIELDS, "parts": [
        {"share": 0.1, "seed": 0, "rest": True}, {"share": 0.2, "seed": 0}
    ]}  # fmt: skip
    assert sources(parts(own))["validation"] == wanted


ALL = {"path": "all.jsonl", "fields": FIELDS}
WRONG = {
    "an unknown whole": ({"a": {"of": "al", "share": 0.1}}, ["datasets.a.of", "'al'", "mean 'all'?"]),
    "an unknown share": ({"a": {"of": "all", "without": "b"}}, ["datasets.a.without", "'b'"]),
    "no share": ({"a": {"of": "all", "without": "all"}}, ["datasets.a.without", "'all' is no share of 'all'"]),
    "another's share": (
        {"a": {"of": "gsm-mini-test", "share": 0.1}, "b": {"of": "all", "without": "a"}},
        ["datasets.b.without", "'a' is no share of 'all'"],
    ),
    "a circle": (
        {"a": {"of": "b", "share": 0.1}, "b": {"of": "c", "share": 0.1}, "c": {"of": "a", "share": 0.1}},
        ["circle", "a, b, c, a"],
    ),
    "too deep": (
        {"a0": {"of": "all", "share": 0.5}, **{f"a{n}": {"of": f"a{n - 1}", "share": 0.5} for n in range(1, 40)}},
        ["parts of parts", "16 deep"],
    ),
    "itself": ({"a": {"of": "a", "share": 0.1}}, ["datasets.a.of", "circle"]),
    "all of it": ({"a": {"of": "all", "share": 1}}, ["datasets.a.share", "1"]),
    "nothing": ({"a": {"of": "all", "share": 0.0}}, ["datasets.a.share", "0"]),
    "both": ({"a": {"of": "all", "share": 0.1, "without": "b"}}, ["datasets.a", "'share' or 'without'"]),
    "neither": ({"a": {"of": "all"}}, ["datasets.a", "'share' or 'without'"]),
    "a file of its own": ({"a": {"of": "all", "share": 0.1, "path": "b.jsonl"}}, ["datasets.a"]),
    "fields of its own": ({"a": {"of": "all", "share": 0.1, "fields": FIELDS}}, ["datasets.a", "'fields'", "'all'"]),
    "no fields": ({"a": {"path": "a.jsonl"}}, ["datasets.a", "no 'fields'"]),
    "a share of nothing": ({"a": {**ALL, "share": 0.1}}, ["datasets.a", "'share'", "'of'"]),
    "the rest of nothing": ({"a": {**ALL, "without": "all"}}, ["datasets.a", "'without'", "'of'"]),
    "two sources": ({"a": {**ALL, "hub": "owner/name"}}, ["datasets.a", "either 'path', or 'hub'", "path, hub"]),
    "a file's revision": ({"a": {**ALL, "revision": "main", "file": "b.json"}}, ["datasets.a", "path, revision, file"]),
    "a seed for nothing": ({"a": {**ALL, "seed": 1}}, ["datasets.a", "'seed'", "'share'"]),
    "no prompt and no text": (
        {"t": {"path": "t.jsonl", "fields": {"turns": "turns"}}, "a": {"of": "t", "share": 0.1}},
        ["datasets.a.of", "'t'", "'prompt'", "'text'"],
    ),
    "an empty range": ({"a": {**ALL, "rows": "9-5"}}, ["datasets.a.rows", "9-5", "no row"]),
    "half a range": ({"a": {**ALL, "rows": "5-"}}, ["datasets.a.rows", "5-"]),
    "a backward one": ({"a": {**ALL, "rows": "-5"}}, ["datasets.a.rows", "-5"]),
    "no row": ({"a": {**ALL, "rows": 0}}, ["datasets.a.rows", "0"]),
    "a text": ({"a": {**ALL, "rows": "5 to 9"}}, ["datasets.a.rows", "5 to 9"]),
}


@pytest.mark.parametrize(("datasets", "words"), WRONG.values(), ids=WRONG)
def test_a_part_that_makes_no_sense_ends_the_dry_run(datasets, words):
    """Case 21: before any job, also where the sweep does not use the dataset."""
    says(lambda: check(config(all=ALL, **datasets)), *words)


def test_a_share_without_rows_is_an_error(tmp_path):
    """Case 21: nothing is trained on an empty side."""
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"question": "q", "answer": "a"}), encoding="utf-8")
    source = {"path": str(path), "fields": FIELDS, "parts": [{"share": 1e-9, "seed": 0}]}
    says(lambda: fetch_dataset(source), "one.jsonl", "empty")


def test_scored_prompts_that_were_trained_on_are_counted(tmp_path):
    """Pitfall 19, case 21: equal up to blank space; a first turn is a prompt; texts count among texts."""
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    write_lines(train, [{"prompt": f"What is\n{n}? ", "response": "a"} for n in range(9)])

    def seen(*rows):
        write_lines(test, rows)
        return seen_in_training(test, train)

    assert seen({"prompt": "What is 3?"}, {"prompt": "What is 3?"}, {"prompt": "what is 3?"}, {"prompt": ""}) == 2
    assert seen({"turns": [" What  is 8?", "And 3?"]}, {"turns": ["And 8?", "What is 8?"]}) == 1
    assert seen({"text": "What is 3?"}) is None
    write_lines(train, [{"text": f"What is\n{n}? "} for n in range(9)])
    assert seen({"text": "What is 3? "}, {"text": "What is 9?"}, {"text": "What is 3? It is 3."}) == 1
    assert seen({"prompt": "What is 3?"}) is seen({"turns": ["What is 3?", "And 4?"]}) is None
