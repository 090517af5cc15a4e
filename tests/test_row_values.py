"""What stands in a data file: texts arrive as they are, and anything else is refused with its row and field."""

import gzip
import json

import pytest
from stage import FIELDS, LINE, says

from pissa_repro.sources import rows as rows_module
from pissa_repro.sources.fetched import fetch_dataset
from pissa_repro.sources.rows import gsm8k_response, select
from pissa_repro.tasks import commonsense, humaneval, mbpp, mt_bench

LONG = 1_000_000


def fetched(path, content, **more):
    """The rows of a file with this content."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return fetch_dataset({"path": str(path), "fields": FIELDS, **more})[0]


def line(answer, question='"q"', more=""):
    """A line of a .jsonl file; answer and question in JSON, as they stand in the file."""
    return f'{{"question": {question}, "answer": {answer}{more}}}\n'


NO_TEXT = {  # in JSON -> words of the refusal
    "NaN": ["null"],
    "null": ["null"],
    '["a", "b"]': ["a list", "a text is needed"],
    '{"text": "a"}': ["a dict", "a text is needed"],
    "true": ["a bool"],
    "1e400": ["a float (inf)"],
    "-Infinity": ["a float (-inf)"],
    "1.50": ["a float", "quotes"],
    '[{"role": "user", "content": "q"}]': ["a list", "Chats are not read"],
    '"smile \\ud83d end"': ["surrogate", "ud83d", "character 6"],
    '"\\ude00"': ["surrogate", "character 0"],
}


@pytest.mark.parametrize(("value", "words"), NO_TEXT.items(), ids=NO_TEXT)
@pytest.mark.parametrize("role", ["prompt", "response"])
def test_what_is_no_text_is_refused(tmp_path, role, value, words):
    """Case 6: not its Python form is trained on; the message has row, field and type. Case 18: half a character."""
    bad = line(value) if role == "response" else line('"a"', question=value)
    place = f"fields.{role}: row 1 has"
    says(lambda: fetched(tmp_path / "d.jsonl", LINE.decode() + bad), "d.jsonl", place, f"'{FIELDS[role]}'", *words)


def test_whole_numbers_are_texts(tmp_path):
    """Case 6: integers stay, as the file shows them."""
    assert fetched(tmp_path / "d.jsonl", line("7", question="-12345678901234567890")) == [
        {"prompt": "-12345678901234567890", "response": "7"}
    ]


def test_chat_data_says_what_it_must_become(tmp_path):
    """Case 6: `messages` is no prompt and no response."""
    chat = json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})
    says(
        lambda: fetched(tmp_path / "d.jsonl", chat), "row 0 has no field 'question'", "messages", "into a prompt field"
    )


def test_parquet_values(tmp_path):
    """Case 6: bytes, dates and floats of a table are no texts. Case 18: in an unread column they may stand."""
    import datetime

    import pyarrow
    import pyarrow.parquet

    path, far = tmp_path / "d.parquet", datetime.datetime(2026, 11, 26)
    others = {"when": far, "nan": float("nan"), "raw": b"\xff", "nested": {"a": [1.5]}}
    rows = [{"question": "q", "answer": "a", "n": 7, **others}, {"question": "q2", "answer": None, "n": 8, **others}]
    table = pyarrow.Table.from_pylist(rows)
    # a time that Python's datetime cannot hold
    table = table.append_column("late", pyarrow.array([2**62, 1], pyarrow.timestamp("us")))
    pyarrow.parquet.write_table(table, path)

    def of(answer, **more):
        fields = {"prompt": "question", "response": answer}
        return fetch_dataset({"path": str(path), "fields": fields, **more})[0]

    assert of("n") == [{"prompt": "q", "response": "7"}, {"prompt": "q2", "response": "8"}]
    assert of("answer", rows=1) == [{"prompt": "q", "response": "a"}]
    says(lambda: of("answer"), "row 1 has null in field 'answer'")
    for column, words in {"when": "a datetime", "nan": "null", "raw": "a bytes", "nested": "a dict"}.items():
        says(lambda column=column: of(column), "fields.response: row 0", words, f"'{column}'")
    says(lambda: of("none"), "no field 'none'", "question, answer, n, when, nan, raw, nested, late")


LISTS = {"prompt": "p", "tests": "t"}


@pytest.mark.parametrize(
    ("value", "tests"), [(["a", "b"], ["a", "b"]), ("a", ["a"]), ("", []), ([], [])], ids=["list", "text", "", "[]"]
)
def test_a_list_of_texts(value, tests):
    """Case 6: some roles are lists; a text is a list of one, so that all rows are alike."""
    assert select([{"p": "q", "t": value}], {"fields": LISTS}, "here") == [{"prompt": "q", "tests": tests}]


@pytest.mark.parametrize("value", [7, [7], [None], {"a": "b"}, ["\ud83d"], [["a"]], True, float("inf")], ids=repr)
def test_what_is_no_list_of_texts(value):
    """Case 6: neither is a list with anything else in it."""
    says(lambda: select([{"p": "q", "t": value}], {"fields": LISTS}, "here"), "here.fields.tests: row 0", "'t'")


def test_a_reference_may_be_missing():
    fields = {"turns": "turns", "reference": "ref"}
    rows = [{"turns": ["a", "b"]}, {"turns": ["a", "b"], "ref": float("nan")}, {"turns": ["a", "b"], "ref": ["c"]}]
    assert [row["reference"] for row in select(rows, {"fields": fields}, "here")] == [None, None, ["c"]]


REFUSED = [
    (mbpp, {"prompt": "p", "tests": []}, ["no tests"]),
    (mbpp, {"prompt": "p", "tests": [], "test": "assert 1"}, ["no tests"]),
    (mbpp, {"prompt": "p", "tests": [" "]}, ["no tests"]),
    (humaneval, {"entry_point": "f(", "test": "def check(f): pass"}, ["entry_point", "'f('"]),
    (humaneval, {"entry_point": "f", "test": "assert f()"}, ["def check", "tests of f"]),
    (commonsense, {"prompt": "Answer format: true/false", "answer": "yes"}, ["'yes'", "true, false"]),
    (commonsense, {"prompt": "Answer format: answer1/answer2", "answer": "answer3"}, ["'answer3'", "not offered"]),
    (commonsense, {"prompt": "Which?", "answer": "true"}, ["Answer format"]),
    (mt_bench, {"turns": ["a"], "category": "math"}, ["two texts"]),
    (mt_bench, {"turns": ["a", "b"], "category": "math", "reference": ["a", "b", "c"]}, ["up to two texts"]),
]


@pytest.mark.parametrize(("task", "doc", "words"), REFUSED)
def test_every_task_refuses_rows_that_cannot_be_scored(task, doc, words):
    """Case 6: before anything is generated."""
    says(lambda: task.check(doc), *words)


RIGHT = {  # what the file holds -> the answers
    "a lone NaN beside": (line('"a"', more=', "n": NaN, "m": 1e400'), ["a"]),
    "line ends of Windows": (line('"a"') + "\r\n" + line('"b"').replace("\n", "\r\n"), ["a", "b"]),
    "a byte order mark": ("\ufeff" + line('"a"'), ["a"]),
    "empty lines": ("\n \n" + line('"a"') + "\t\n" + line('"b"') + "\n", ["a", "b"]),
    "no newline at the end": (line('"a"').rstrip(), ["a"]),
    "other line ends inside": (
        line('"a\u2028b\u0085c\u000bd"'.replace("\u000b", "\\u000b")),
        ["a\u2028b\u0085c\u000bd"],
    ),
    "a carriage return at the end": (line('"a\\r"'), ["a\r"]),
    "a pair of surrogates": (line('"\\ud83d\\ude00"'), ["\U0001f600"]),
    "a zero byte": (line('"a\\u0000b"'), ["a\0b"]),
}


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz"])
@pytest.mark.parametrize(("content", "answers"), RIGHT.values(), ids=RIGHT)
def test_a_text_is_the_files_text(tmp_path, name, content, answers):
    """Case 18: whatever line ends, marks and neighbours the file has, in all versions of the format."""
    data = content.encode()
    rows = fetched(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data)
    assert [row["response"] for row in rows] == answers


def test_marks_in_the_other_formats(tmp_path):
    """Case 18: .json and .txt may begin with a byte order mark, too; line ends of Windows are line ends."""
    content = "\ufeff" + json.dumps([json.loads(LINE)])
    assert fetched(tmp_path / "d.json", content) == [{"prompt": "q", "response": "a"}]
    assert fetched(tmp_path / "d.txt", "\ufeffa\r\nb\rc\u2028", fields={"text": "text"}) == [{"text": "a\nb\rc\u2028"}]


MESSAGES = {
    "brackets": (line('"a"', more=', "n": ' + "[" * LONG + "]" * LONG), ["line 2", "nested too deeply"]),
    "brackets in the answer": (line("[" * 500 + "]" * 500), ["row 1", "a list"]),
    "a key twice": (line('"a"', more=', "answer": "b"'), ["line 2", "'answer'", "twice"]),
    "a huge number": (line("9" * 10_000), ["line 2", "digits"]),
    "latin-1": (line('"a"').replace("q", "\xe9").encode("latin-1"), ["line 2", "UTF-8"]),
    "utf-16": (line('"a"').encode("utf-16"), ["line 2", "UTF-8"]),
    "a line too long": (line('"a"') + " " * 2000 + "\n", ["line 3", "longer than 1,000 bytes"]),
}


@pytest.mark.parametrize(("content", "words"), MESSAGES.values(), ids=MESSAGES)
def test_one_message(tmp_path, monkeypatch, content, words):
    """Case 18: what cannot be read ends in one message with the line."""
    if "longer" in words[-1]:
        monkeypatch.setattr(rows_module, "LONGEST_LINE", 1000)
    data = content if isinstance(content, bytes) else content.encode()
    says(lambda: fetched(tmp_path / "d.jsonl", LINE + data), "d.jsonl", *words)
    says(lambda: fetched(tmp_path / "e.jsonl.gz", gzip.compress(LINE + data)), "e.jsonl.gz", *words)


@pytest.mark.parametrize("name", ["d.json.gz", "d.txt.gz"])
def test_a_small_file_that_unpacks_to_a_huge_one(tmp_path, monkeypatch, name):
    """Case 18: nothing is unpacked without a limit."""
    monkeypatch.setattr(rows_module, "LARGEST", 100_000)
    says(lambda: fetched(tmp_path / name, gzip.compress(b" " * LONG)), name, "100,000 bytes", ".jsonl")


def test_an_endless_line_takes_bounded_memory(tmp_path, monkeypatch):
    """Case 18: a line is read up to the limit, not to its end."""
    import tracemalloc

    monkeypatch.setattr(rows_module, "LONGEST_LINE", LONG)
    path = tmp_path / "d.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * (300 * LONG), 1))
    tracemalloc.start()
    says(lambda: fetch_dataset({"path": str(path), "fields": FIELDS}), "line 1", "longer than 1,000,000 bytes")
    assert tracemalloc.get_traced_memory()[1] < 20 * LONG
    tracemalloc.stop()


@pytest.mark.parametrize("ending", ["\r", "\r\n", " \r\n", "  ", "\n\n"])
def test_the_last_line_of_a_gsm8k_answer(ending):
    """Case 18: blank space and line ends of Windows after the number are not trained on."""
    assert gsm8k_response(f"2 + 3 = <<2+3=5>>5\n#### 5{ending}") == "2 + 3 = 5\nThe answer is: 5"
