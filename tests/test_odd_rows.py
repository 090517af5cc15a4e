"""Odd rows, drawn at random: what is read, formed, tokenized and checked is what the file has, or a message."""

import contextlib
import gzip
import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage import FIELDS

from pissa_repro import tasks
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_lines, write_lines
from pissa_repro.sources.fetched import EMBEDDED, fetch_dataset
from pissa_repro.sources.prompt import PROMPT
from pissa_repro.sources.roles import ROLES
from pissa_repro.sources.rows import gsm8k_response, select
from pissa_repro.tasks import gsm8k

whole = st.text(max_size=20)
text = whole | whole | st.text(st.characters(exclude_categories=()), max_size=20)  # half characters, too
number = st.sampled_from(
    ["5", "-5", "1,234", "1/2", ".5", "1e3", "1_000", "1,23", "\u22125", "$5", "5.", "nan", "5\r", "#"]
)
answer = text | st.builds(
    "{}\n#### {}{}".format, text, number, st.sampled_from(["", " ", "\r\n", "\n", "\n\u2028", "#"])
)
numbers = st.integers() | st.floats()
plain = st.none() | st.booleans() | numbers | text
value = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))
ODD = ["1e400", "-1e400", "NaN", "Infinity", "9" * 5000, "[" * 5000 + "]" * 5000, "1.0", '"\\ud83d"', "nul", "'a'", ""]
literal = value.map(json.dumps) | answer.map(json.dumps) | st.sampled_from(ODD)  # as it stands in a file
names = st.sampled_from(["question", "answer", "messages", "text", "\ud83d", "", "question "])
SOUND = text.map(json.dumps) | answer.map(json.dumps) | st.integers().map(str)
rows = st.lists(
    st.builds(
        lambda question, answer, others: [("question", question), ("answer", answer), *others],
        SOUND | literal,
        SOUND | literal,
        st.lists(st.tuples(names, literal), max_size=2),
    ),
    max_size=3,
)
sound_rows = st.lists(st.tuples(whole, whole | answer), min_size=1, max_size=9)
often = st.sampled_from([True] * 30 + [False])  # eleven roles: most rows are to be sound
KINDS = {
    "text": often.flatmap(
        lambda sound: whole | st.sampled_from(["true", "def check(f): pass", "f"]) if sound else value
    ),
    "texts": often.flatmap(lambda sound: st.lists(whole, min_size=1, max_size=2) if sound else value),
}
MANY, SOME = settings(max_examples=1000), settings(max_examples=300)


def objects(drawn):
    """The rows as JSON objects, with keys that may stand twice."""
    return ["{" + ", ".join(f"{json.dumps(name)}: {content}" for name, content in row) + "}" for row in drawn]


def wanted(lines):
    """The texts that these lines hold, by Python's own reader; None where one is no row of two texts."""
    found = []
    for line in lines:
        try:
            pairs = json.loads(line, object_pairs_hook=tuple)
        except (ValueError, RecursionError):
            return None
        row = dict(pairs)
        if len(row) < len(pairs) or not all(_is_text(row[name]) for name in FIELDS.values()):
            return None
        found.append({role: str(row[name]) for role, name in FIELDS.items()})
    return found or None


def _is_text(content):
    if isinstance(content, str):
        return not any("\ud800" <= character <= "\udfff" for character in content)
    return isinstance(content, int) and not isinstance(content, bool)


def fetched(name, content, **more):
    """The rows of a file, as the stage writes and the next one reads them; None where they are refused."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, name), Path(folder, "rows.jsonl")
        path.write_bytes(content)
        try:
            taken = fetch_dataset({"path": str(path), "fields": FIELDS, **more})[0]
        except UserError as error:
            assert name in str(error) or "####" in str(error)
            return None
        write_lines(out, taken)
        assert read_lines(out) == taken
        return taken


def nested(lines):
    """Whether an object holds another one with a key twice, or what only some versions of Python can read."""
    return any("[" * 500 in line or line.count("{") > 1 for line in lines)


@MANY
@given(rows, st.sampled_from(["\n", "\r\n", "\n\n", " \n\t\n"]), st.booleans(), st.booleans())
def test_rows_of_any_values(drawn, ending, mark, packed):
    """Case 18: a file of lines gives the texts that stand in it, or one message."""
    lines = objects(drawn)
    content = ending.join(["\ufeff" * mark + line for line in lines[:1]] + lines[1:]).encode()
    found = fetched(*(("d.jsonl.gz", gzip.compress(content, 1)) if packed else ("d.jsonl", content)))
    expected = wanted(lines)
    if found != expected:
        assert found is None and nested(lines)
    as_list = fetched("d.json", f"[{', '.join(lines)}]".encode())
    assert as_list == found or nested(lines)


@SOME
@given(sound_rows, st.sampled_from(["utf-8", "utf-8", "latin-1", "utf-16"]), st.data())
def test_files_that_are_damaged(drawn, encoding, data):
    """Case 18: in another encoding, cut short, or with other bytes inside; whole lines still give their texts."""
    lines = (json.dumps(dict(zip(FIELDS.values(), row, strict=True)), ensure_ascii=False) for row in drawn)
    content = "\n".join(lines).encode(encoding, "replace")
    packed = data.draw(st.booleans())
    content = gzip.compress(content, 1) if packed else content
    place = data.draw(st.integers(0, max(0, len(content) - 1)))
    damaged = content[:place] + data.draw(st.binary(max_size=3)) + content[place + data.draw(st.integers(0, 9)) :]
    found = fetched("d.jsonl.gz" if packed else "d.jsonl", damaged)
    if found and not packed:
        assert found == wanted(line for line in damaged.decode("utf-8-sig").split("\n") if line.strip())


@pytest.fixture(scope="module")
def tokenizer():
    from pissa_repro.model.tokens import load_tokenizer

    return load_tokenizer(EMBEDDED)


@MANY
@given(question=text, response=answer)
def test_what_is_trained_on_is_the_files_text(tokenizer, question, response):
    """Case 18: through the response's form and the embedded tokenizer; and a reference that passes scores itself."""
    from pissa_repro.training.examples import tokenize

    for form in ("plain", "gsm8k"):
        with contextlib.suppress(UserError):
            source = {"fields": FIELDS, "response_format": form}
            (row,) = select([{"question": question, "answer": response}], source, "here")
            assert row["prompt"] == question and (form != "plain" or row["response"] == response)
            ((example,), _) = tokenize([row], tokenizer, 4096)
            learned = [label for label in example["labels"] if label != -100]
            assert tokenizer.decode(learned) == row["response"] + "\n" + tokenizer.eos_token
            assert PROMPT.format(instruction=question) + row["response"] in tokenizer.decode(example["input_ids"])
    with contextlib.suppress(UserError):
        gsm8k.check({"response": response})
        assert gsm8k.strict_answer(gsm8k_response(response)) == gsm8k.reference(response)


@SOME
@given(st.lists(st.fixed_dictionaries({role: KINDS[kind] for role, kind in ROLES.items()}), max_size=2))
def test_every_task_checks_any_row(drawn):
    """Case 6: values in the roles of a task are of their kind, and its check says the rest."""
    from datasets import Dataset

    for name in tasks.names():
        task = tasks.load(name)
        fields = {role: role for role in task.file.metadata["fields"]}
        with contextlib.suppress(UserError):
            taken = select(drawn, {"fields": fields}, "here")
            for row in taken:
                kinds = {role: list if ROLES[role] == "texts" else str for role in row}
                assert all(isinstance(row[role], kind) for role, kind in kinds.items())
            assert list(Dataset.from_list(taken)) == taken
            for row in taken:
                task.rules.check(row)


@SOME
@given(st.lists(plain | st.binary(max_size=5) | st.datetimes() | st.lists(text, max_size=2), min_size=1, max_size=3))
def test_tables_of_any_values(drawn):
    """Case 6: what a .parquet column may hold."""
    import pyarrow
    import pyarrow.parquet

    with contextlib.suppress(pyarrow.ArrowException, UnicodeEncodeError, OverflowError):
        table = pyarrow.table({"question": ["q"] * len(drawn), "answer": drawn})
        sink = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, sink)
        found = fetched("d.parquet", sink.getvalue().to_pybytes())
        kept = [None if isinstance(one, float) and math.isnan(one) else one for one in table["answer"].to_pylist()]
        sound = all(_is_text(one) for one in kept)
        assert found == ([{"prompt": "q", "response": str(one)} for one in kept] if sound else None)
