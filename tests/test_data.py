"""The prompt, the response, tokens and labels, and reading rows from every format."""

import gzip
import json
import re

import pytest
from stage import says
from tiny import byte_tokenizer

from pissa_repro.runtime.errors import UserError
from pissa_repro.sources.prompt import MARKER, PROMPT
from pissa_repro.sources.rows import gsm8k_response, read_rows, select
from pissa_repro.training.examples import tokenize


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def test_prompt_text():
    """docs/paper_facts.md 3.2: the Alpaca template without an input field, to the last character."""
    assert PROMPT.format(instruction="Add 1 and 2.") == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd 1 and 2.\n\n### Response:"
    )


NATALIA = "In May she sold 48/2 = <<48/2=24>>24 clips.\nTogether 48+24 = <<48+24=72>>72 clips.\n#### 72"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (NATALIA, "In May she sold 48/2 = 24 clips.\nTogether 48+24 = 72 clips.\nThe answer is: 72"),
        ("It is $<<10*2=20>>20.\n#### 20", "It is $20.\nThe answer is: 20"),
        ("a\n#### 1,080", "a\nThe answer is: 1,080"),
        ("a\n####  -5 \n", "a\nThe answer is: -5 "),
        ("a #### b\n#### 5", "a #### b\nThe answer is: 5"),
        ("#### 5", "\nThe answer is: 5"),
    ],
)
def test_gsm8k_response(answer, expected):
    assert gsm8k_response(answer).rstrip() == expected.rstrip()


@pytest.mark.parametrize("answer", ["", "72", "a\n####", "a\n#### ", "a\n#### 5\nmore", "### 5"])
def test_gsm8k_response_without_a_number(answer):
    with pytest.raises(UserError, match="#### N"):
        gsm8k_response(answer)


def test_a_row_without_a_number_is_named():
    source = {"fields": {"prompt": "q", "response": "a"}, "response_format": "gsm8k"}
    says(lambda: select([{"q": "1", "a": "#### 1"}, {"q": "2", "a": "two"}], source, "mine"), "mine: row 1:", "#### N")


def test_every_real_answer_converts(shared_data):
    rows = list(read_rows(shared_data / "gsm8k" / "train.jsonl.gz"))
    assert len(rows) == 7473
    source = {"fields": {"prompt": "question", "response": "answer"}, "response_format": "gsm8k"}
    for row in select(rows, source, "here"):
        assert re.search(r"\nThe answer is: -?[\d,.]+$", row["response"]), row["response"][-60:]
        assert not re.search("<<|>>|####", row["response"])


def test_real_metamath_rows(shared_data):
    """A slice of the paper's own data: its rows end as gsm8k_response makes ours end."""
    source = {"fields": {"prompt": "query", "response": "response"}}
    rows = select(read_rows(shared_data / "metamath" / "metamathqa_rows.jsonl"), source, "here")
    assert rows and all(MARKER in row["response"] for row in rows)


def pieces(tokenizer, row, max_length=512):
    """The one example of a row: prompt ids, target ids, labels, lengths."""
    (example,), lengths = tokenize([row], tokenizer, max_length)
    head = tokenizer(PROMPT.format(instruction=row["prompt"]))["input_ids"]
    return head, example["input_ids"], example["labels"], lengths


ROW = {"prompt": "Ann has 2 apples and buys 3.", "response": "2 + 3 = 5\nThe answer is: 5"}


def test_labels_are_the_response_newline_and_eos(tokenizer):
    """Pitfall 17."""
    head, ids, labels, lengths = pieces(tokenizer, ROW)
    assert ids[: len(head)] == head and len(labels) == len(ids)
    assert labels[: len(head)] == [-100] * len(head)
    assert labels[len(head) :] == ids[len(head) :] and -100 not in labels[len(head) :]
    target = [label for label in labels if label != -100]
    assert tokenizer.decode(target) == ROW["response"] + "\n</s>"
    assert target.count(tokenizer.eos_token_id) == 1 and target[-1] == tokenizer.eos_token_id
    assert (lengths.examples, lengths.truncated, lengths.dropped, lengths.merged) == (1, 0, 0, 0)
    assert (lengths.tokens, lengths.response_tokens) == (len(ids), len(target))


@pytest.mark.parametrize("template", ["<s> $A </s>", "<s> $A </s> </s>", "<s> $A <s>"])
def test_a_tokenizer_that_adds_tokens_behind_a_text_gives_the_same_example(tokenizer, template):
    """Case 1: eos, as some models' tokenizers do, or anything; the target ends with one eos."""
    other = byte_tokenizer(template)
    assert len(other("a")["input_ids"]) > len(tokenizer("a")["input_ids"])
    assert tokenize([ROW], other, 512) == tokenize([ROW], tokenizer, 512)


def test_cut_at_the_window(tokenizer):
    head, ids, _, _ = pieces(tokenizer, ROW)
    for room in range(len(head) + 1, len(ids) + 2):
        (example,), lengths = tokenize([ROW], tokenizer, room)
        assert example["input_ids"] == ids[:room]
        assert example["labels"] == [-100] * len(head) + ids[len(head) : room]
        assert lengths.truncated == (room < len(ids)) and lengths.dropped == 0
        assert lengths.response_tokens == min(room, len(ids)) - len(head)


def test_a_prompt_that_fills_the_window_is_dropped_and_counted(tokenizer):
    long = {"prompt": "apples " * 400, "response": "5"}
    examples, lengths = tokenize([long, ROW, long], tokenizer, 512)
    assert len(examples) == 1 and examples == tokenize([ROW], tokenizer, 512)[0]
    assert (lengths.examples, lengths.dropped, lengths.truncated) == (3, 2, 0)


def test_only_too_long_prompts_are_an_error(tokenizer):
    head = tokenizer(PROMPT.format(instruction=ROW["prompt"]))["input_ids"]
    with pytest.raises(UserError, match=rf"config\.train\.max_length.*{len(head)} tokens"):
        tokenize([ROW], tokenizer, len(head))


def test_a_joined_border_is_counted():
    """A tokenizer with a token ":2" joins the prompt's end and the response's start."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([":2"])
    examples, lengths = tokenize([ROW], tokenizer, 512)
    assert lengths.merged == 1 and len(examples) == 1


@pytest.mark.parametrize("text", ["{braces} {0} %s", "caf\u00e9 \u4e8c \U0001f34e", "", "line\nline"])
def test_any_text_survives(tokenizer, text):
    _, ids, labels, _ = pieces(tokenizer, {"prompt": text, "response": text})
    assert tokenizer.decode([i for i in labels if i != -100]) == text + "\n</s>"
    assert f"### Instruction:\n{text}\n\n### Response:{text}\n</s>" in tokenizer.decode(ids)


ROWS = [{"q": f"How much is {i} + \u00bd?", "a": str(i)} for i in range(5)]


def write(path, rows=ROWS):
    """The rows in the format that the file's name says."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)
    else:
        path.write_text(lines, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.parquet"])
def test_every_format_gives_the_same_rows_in_order(tmp_path, name):
    assert list(read_rows(write(tmp_path / name))) == ROWS


def test_empty_lines_do_not_count(tmp_path):
    path = write(tmp_path / "rows.jsonl")
    path.write_text("\n" + path.read_text(encoding="utf-8") + "\n  \n", encoding="utf-8")
    assert list(read_rows(path)) == ROWS


def test_select_takes_the_first_rows_by_name():
    source = {"fields": {"prompt": "q", "response": "a"}, "rows": 2}
    assert select(iter(ROWS), source, "here") == [{"prompt": r["q"], "response": r["a"]} for r in ROWS[:2]]
    assert len(select(iter(ROWS), source | {"rows": 5}, "here")) == 5
