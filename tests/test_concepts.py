"""The pages under docs/concepts: keys, limits and words are those of the code, and their lines print what they say."""

import contextlib
import io
import re
from typing import get_type_hints

import pytest
from printed import BLOCK

from pissa_repro.grading import sandbox
from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.record_types import TrainRecord

CONCEPTS = ROOT / "docs/concepts"


def page(name: str) -> str:
    return (CONCEPTS / f"{name}.md").read_text(encoding="utf-8")


def column(table: str) -> list[str]:
    """The words in the first column of a table."""
    rows = re.findall(r"^\| (`[^|]*) \|", table, flags=re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`(\w+)`", row)]


@pytest.mark.parametrize("name", ["statistics", "sandbox"])
def test_lines_print_what_the_page_says(name):
    ((language, code, said),) = BLOCK.findall(page(name))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, f"{name}.md", "exec"), {})
    assert language == "python" and printed.getvalue() == said


def test_the_keys_of_a_training_are_those_of_its_record():
    keys = column(page("records"))
    assert len(set(keys)) == len(keys) and set(keys) == get_type_hints(TrainRecord).keys()


def test_the_limits_are_those_of_the_sandbox():
    found = {name: int(value) for name, value in re.findall(r"^\| `(\w+)` \| (\d+) \|", page("sandbox"), re.MULTILINE)}
    assert found == vars(sandbox.Limits())


def test_what_is_not_guaranteed_is_in_the_words_of_the_records():
    said = re.search(r"<!-- weaknesses -->\n(.*?)<!-- /weaknesses -->", page("sandbox"), flags=re.DOTALL)[1]
    written = re.findall(r"^- (.*)$", said, flags=re.MULTILINE)
    assert written and written == sandbox.weaknesses()[: len(written)]


def test_functions_are_in_the_files_that_the_pages_name():
    """A function is named with its file behind it, as in: `holm` in `pissa_repro/results/multiple.py`."""
    pairs = [pair for name in ("statistics", "records") for pair in re.findall(
        r"`(\w+)`,? in\s+`(pissa_repro/[\w/]+\.py)`", page(name))]  # fmt: skip
    assert len(pairs) >= 6
    for function, path in pairs:
        assert re.search(rf"^def {function}\(", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE), function
