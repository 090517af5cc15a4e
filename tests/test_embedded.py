"""The problem generator, the tokenizer, the pre-training recipe and the shipped base model."""

import json
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
import typer
from commands import pissa
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pissa_repro.embedded import corpus, pretrain, problems
from pissa_repro.embedded.tokenizer import build_tokenizer
from pissa_repro.stages import pretrain as pretrain_stage

MODEL = Path(pretrain.__file__).parent / "model"
SPLITS = ("train", "validation", "test")
EQUATION = re.compile(r"(\d+)([-+*/])(\d+)=<<(\d+)([-+*/])(\d+)=(\d+)>>(\d+) [a-z]+")
VALUE = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


@pytest.fixture(scope="module")
def rows():
    return {split: problems.generate(split, 3000) for split in SPLITS}


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL)


def test_schema_of_gsm8k(rows):
    for split in SPLITS:
        assert len(rows[split]) == 3000
        for problem in rows[split]:
            assert set(problem) == {"question", "answer"}
            assert problem["question"].endswith("?")
            assert re.fullmatch(r"#### \d+", problem["answer"].splitlines()[-1])


def test_splits_are_disjoint_even_with_names_masked(rows):
    masked = {s: {problems.normalise(p["question"]) for p in rows[s]} for s in SPLITS}
    assert not masked["train"] & masked["test"]
    assert not masked["train"] & masked["validation"]
    assert not masked["validation"] & masked["test"]
    for split in SPLITS:
        assert len({p["question"] for p in rows[split]}) == 3000


def test_other_seeds_stay_in_their_split():
    other = problems.generate("train", 500, seed=7)
    assert other != problems.generate("train", 500, seed=8)
    assert all(problems.split_of(p["question"]) == "train" for p in other)


def test_normalise_masks_who_and_what():
    one = problems.normalise("Tom has 8 toys. He loses 2. How many toys does Tom have now?")
    two = problems.normalise("Mia has 8 cups. She loses 2. How many cups does Mia have now?")
    assert one == two
    assert one != problems.normalise("Tom has 9 toys. He loses 2. How many toys does Tom have now?")


def test_annotations_are_right_and_lead_to_the_answer(rows):
    for problem in rows["train"] + rows["test"]:
        *lines, last = problem["answer"].splitlines()
        assert 2 <= len(lines) <= 4
        known = [int(n) for n in re.findall(r"\d+", problem["question"])]
        known += [2] * ("half" in problem["question"] or "twice" in problem["question"])
        for line in lines:
            a, op, b, *inside, result, shown = EQUATION.fullmatch(line).groups()
            assert inside == [a, op, b]
            assert result == shown
            assert VALUE[op](int(a), int(b)) == int(result)
            assert int(a) in known and int(b) in known
            assert 0 < int(result) <= 200
            known.append(int(result))
        assert last == f"#### {result}"


def test_fewer_rows_are_a_prefix():
    assert problems.generate("test", 200)[:50] == problems.generate("test", 50)


def test_a_fresh_process_prints_the_same():
    command = [sys.executable, "-m", "pissa_repro", "problems", "--split", "test"]
    done = subprocess.run([*command, "--rows", "20"], capture_output=True, encoding="utf-8", check=True)
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert printed == problems.generate("test", 20)


def test_the_first_problem_is_the_known_one():
    assert problems.generate("test", 2)[1] == {
        "question": "Tom has 8 toys. Emma has twice as many toys as Tom. How many toys do they have in all?",
        "answer": "8*2=<<8*2=16>>16 toys\n8+16=<<8+16=24>>24 toys\n#### 24",
    }


def test_the_generator_needs_no_torch():
    code = "import sys, pissa_repro.embedded.problems; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("split", "count", "message"),
    [
        ("dev", 5, r"'dev'.*train, validation, test"),
        ("test", 0, r"rows = 0.*1 to 10000"),
        ("test", 10_001, r"rows = 10001.*1 to 10000"),
    ],
)
def test_bad_input_names_value_and_choices(split, count, message):
    with pytest.raises(ValueError, match=message):
        problems.generate(split, count)


def test_the_held_out_text_is_a_prefix_of_a_stream_that_was_not_trained_on():
    """As a dataset, through the fetch stage's own function."""
    from pissa_repro.sources.fetched import fetch_dataset

    rows, _ = fetch_dataset({"path": "embedded:pretraining", "rows": 300, "fields": {"text": "text"}})
    assert rows[:20] == corpus.held_out(20) and all(row["text"].strip() for row in rows)
    assert [row["text"] for row in rows] == list(islice(corpus.documents("held out 0"), 300))
    trained = set(islice(corpus.documents("train 0"), 500))
    assert sum(row["text"] in trained for row in rows) < 30  # short ones may be
    with pytest.raises(ValueError, match=r"rows = 100001.*1 to 100000"):
        corpus.held_out(100_001)


def test_bad_command_line_stops(capsys):
    with pytest.raises(typer.BadParameter, match="1 to 10000"):
        pissa("problems", "--split", "test", "--rows", "0")
    with pytest.raises(SystemExit):
        pretrain_stage.main(["--out", "unused", "--steps", "0"])
    assert "--steps 0" in capsys.readouterr().err


def test_corpus_holds_no_solutions_and_no_foreign_questions(rows):
    text = "\n".join(islice(corpus.documents("train 0"), 5000))
    assert not re.search(r"The answer is: \d", text)
    foreign = [p["question"] for p in rows["test"] + rows["validation"]]
    assert not [question for question in foreign if question in text]


def test_digits_are_single_tokens(tokenizer):
    ids = tokenizer("120+7=127 and 2024")["input_ids"]
    digits = [tokenizer.decode([i]) for i in ids if any(c.isdigit() for c in tokenizer.decode([i]))]
    assert "".join(digits) == "12071272024"
    assert all(len(digit) == 1 for digit in digits)
    assert not [t for t in tokenizer.get_vocab() if len(t) > 1 and any(c.isdigit() for c in t)]


@pytest.mark.parametrize(
    "text",
    [
        "Natalia sold 48/2 = <<48/2=24>>24 clips.\n#### 24",
        "  two  spaces\n\n\nend ",
        "naïve € 数学 🙂\t\x00",
    ],
)
def test_any_text_round_trips(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_token_id not in ids


def test_special_tokens(tokenizer):
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.bos_token_id == tokenizer.eos_token_id
    assert tokenizer.padding_side == "right"
    assert tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"]


def test_the_prompt_is_cheap(tokenizer):
    assert len(tokenizer(corpus.TEMPLATE.format(question="X"))["input_ids"]) <= 16


def test_shipped_model_loads_with_exactly_its_keys(tokenizer):
    model, loading = AutoModelForCausalLM.from_pretrained(MODEL, output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.model_type == "llama"
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    ids = torch.tensor([tokenizer("7+5=12\n9-3=6\n8+4=")["input_ids"]])
    done = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=2)
    assert tokenizer.decode(done[0, ids.shape[1] :]) == "12"


def test_shipped_model_is_small_and_is_the_recipe():
    assert sum(f.stat().st_size for f in MODEL.iterdir()) <= 10_000_000
    assert all(t.dtype == torch.float32 for t in load_file(MODEL / "model.safetensors").values())
    record = json.loads((MODEL / "pretrain.json").read_text(encoding="utf-8"))
    assert record["recipe"] == pretrain.RECIPE
    assert record["shape"] == pretrain.SHAPE
    assert record["seed"] == 0


def test_shipped_tokenizer_is_the_recipe():
    shipped = json.loads((MODEL / "tokenizer.json").read_text(encoding="utf-8"))
    assert json.loads(build_tokenizer(0).backend_tokenizer.to_str())["model"] == shipped["model"]


@pytest.fixture
def same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_recipe_runs_and_repeats(tmp_path, same_threads):
    for name in ("one", "two"):
        command = ["--out", str(tmp_path / name), "--seed", "3", "--steps", "3", "--threads", "1"]
        pretrain_stage.main(command)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    record = json.loads((tmp_path / "one" / "pretrain.json").read_text(encoding="utf-8"))
    assert record["steps"] == 3 and record["seed"] == 3
