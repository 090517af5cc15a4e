"""HumanEval and MBPP: the cuts, the instructions, and real programs in the sandbox."""

import ast
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pissa_repro.grading import sandbox
from pissa_repro.grading.answers.programs import paper, strict
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import write_lines
from pissa_repro.tasks import humaneval, mbpp

F = "def f():\n    return 1"
B = f"```python\n{F}\n```"

# answer, what the paper's rule keeps, what the strict rule keeps
CUTS = [
    # blocks
    (B, F, F + "\n"),
    (f"Sure:\n\n{B}\nIt returns 1.", F, F + "\n"),
    (f"{B}\nor\n```python\ndef g(): pass\n```", F, F + "\n"),
    (f"```python\n{F}", f"\n{F}", None),  # never closed
    (f"```python\n{F}\n\n\n", f"\n{F}", None),
    (f"```python\n\n\n{F}\n\n```", F, f"\n\n{F}\n\n"),
    (f"```python {F}```", f" {F}```", None),  # all on the fence's line
    ("```python\n```", "", ""),
    ("```python", "", None),
    (f"```\n{F}\n```", f"```\n{F}\n```", None),  # no language
    (f"```bash\nls\n```\n{B}", F, F + "\n"),
    (f"```\nx\n```\n~~~ py\n{F}\n~~~  \n", f"```\nx\n```\n~~~ py\n{F}\n~~~  \n", F + "\n"),
    (f"```python title=a\n{F}\n```", f"title=a\n{F}", F + "\n"),
    (f"``` `x` ```\n{B}", F, F + "\n"),
    (f"```py\n{F}\n```", f"```py\n{F}\n```", F + "\n"),
    (f"```python3\n{F}\n```", f"3\n{F}", F + "\n"),  # the paper's rule leaves the 3, a harmless statement
    (f"```Python\n{F}\n```", f"```Python\n{F}\n```", F + "\n"),
    (f"~~~python\n{F}\n~~~", f"~~~python\n{F}\n~~~", F + "\n"),
    (f"````python\n{F}\n````", F, F + "\n"),
    (f"1. First:\n   ```python\n{F}\n   ```", f"\n{F}\n   ```", None),  # an indented fence closes nothing
    (f"```python\n{F}\n```python\ndef g(): pass\n```", f"{F}\n\ndef g(): pass", f"{F}\n```python\ndef g(): pass\n"),
    # no block: the text as it is
    (F, F, None),
    ("    return 1\n", "    return 1\n", None),
    ("", "", None),
    (" \n", " \n", None),
    ("I cannot do that.", "I cannot do that.", None),
    # a block that is only the body: the paper's rule takes its first indentation
    ("```python\n    x = 1\n    return x\n```", "x = 1\n    return x", "    x = 1\n    return x\n"),
    # the main guard: double quotes only
    (f'```python\n{F}\n\nif __name__ == "__main__":\n    f()\n```', F, f'{F}\n\nif __name__ == "__main__":\n    f()\n'),
    (f"{F}\n\nif __name__ == '__main__':\n    f()", f"{F}\n\nif __name__ == '__main__':\n    f()", None),
    (f'{F}\nif __name__=="__main__":\n    f()', f'{F}\nif __name__=="__main__":\n    f()', None),
    (f'{F}\nx = __name__ == "__main__"', f'{F}\nx = __name__ == "__main__"', None),  # the released code stops here
    # example usage
    (f"```python\n{F}\n\n# Example usage:\nprint(f())\n```", F, f"{F}\n\n# Example usage:\nprint(f())\n"),
    (f"{F}\n# Example usage\nf()", F, None),
    (f"{F}\n# example usage\nf()", f"{F}\n# example usage\nf()", None),
    # assert, wherever it stands
    (f"```python\n{F}\n\nassert f() == 1\n```", F, f"{F}\n\nassert f() == 1\n"),
    ("def f():\n    assert True\n    return 1", "def f():", None),
    ('def f():\n    """It asserts."""\n    return 1', 'def f():\n    """It', None),
    ("def f():\n    return 'assert'", "def f():\n    return '", None),
    ("    x = 1\n    return x\nassert 1", "x = 1\n    return x", None),  # the cut takes the first indentation as well
    ("assert f() == 1", "", None),
    # several marks
    (f'{F}\n# Example usage\nassert 1\nif __name__ == "__main__":\n    f()', F, None),
    # line ends, tabs, other scripts
    (B.replace("\n", "\r\n"), F, F + "\n"),
    ("```python\ndef f():\r    return 1\n```", "def f():    return 1", "def f():\r    return 1\n"),
    ("```python\ndef f():\n\treturn 1\n```", "def f():\n\treturn 1", "def f():\n\treturn 1\n"),
    ("Ответ:\n```python\nf = 'é你'\n```", "f = 'é你'", "f = 'é你'\n"),
    ("```python\n" + "x = 1\n" * 100_000 + "```", ("x = 1\n" * 100_000).strip(), "x = 1\n" * 100_000),
    ("`" * 100_000, "`" * 100_000, None),
    ("```python\n" * 20_000, "\n" * 19_999, None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "by_paper", "by_strict"), CUTS, ids=[repr(case[0])[:40] for case in CUTS])
def test_both_cuts(text, by_paper, by_strict):
    assert (paper(text), strict(text)) == (by_paper, by_strict)


HEADER = 'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """ Their sum\n    """\n'
TASK = {
    "prompt": HEADER,
    "response": "    return sum(xs)\n",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n",
    "entry_point": "total",
}
RIGHT = "def total(xs: List[int]) -> int:\n    return sum(xs)"

# an answer to TASK, and its two verdicts
ANSWERS = [
    (f"```python\n{RIGHT}\n```", 1, 1),
    (f"```python\n{HEADER}    return sum(xs)\n```", 1, 1),
    (f"{RIGHT}\n", 1, 0),
    ("    return sum(xs)\n", 1, 0),  # HumanEval's own protocol: header + body
    ("```python\n    y = sum(xs)\n    return y\n```", 0, 1),
    (f"```python\n{RIGHT}\n\nassert total([1]) == 2\n```", 1, 0),
    (f"```python\n{RIGHT}\n\n# Example usage\nprint(total(input()))\n```", 1, 0),
    (f"```python\n{RIGHT}\n\nif __name__ == '__main__':\n    total(input())\n```", 1, 1),
    (f"```python3\n{RIGHT}\n```", 1, 1),
    (f"```py\n{RIGHT}\n```", 0, 1),
    (f"```python\n{RIGHT}", 1, 0),
    (f"```python\n{RIGHT.replace('sum(xs)', 'sum(xs) + 1')}\n```", 0, 0),
    ("```python\ndef other(xs):\n    return sum(xs)\n```", 0, 0),
    ("```python\nimport os\nos._exit(0)\n```", 0, 0),
    ("```python\nraise SystemExit(0)\n```", 0, 0),
    ("```python\ndef check(candidate): pass\n```", 0, 0),
    ("", 0, 0),
    ("```python\n\n```", 0, 0),
    ("I do not know.", 0, 0),
]


def test_verdicts_of_one_task():
    humaneval.prepare([TASK] * len(ANSWERS), [text for text, _, _ in ANSWERS])
    for text, by_paper, by_strict in ANSWERS:
        assert humaneval.process_results(TASK, [text]) == {"paper": by_paper, "strict": by_strict}, text


def test_the_instruction():
    text = humaneval.prompt(TASK)
    assert text.startswith("Please provide a self-contained Python script that solves")
    assert text.endswith(f"in a markdown code block:\n```\n{HEADER.strip()}\n```")
    assert humaneval.prompt({"prompt": "def f(): return {x}"}).count("return {x}") == 1


PLUS = """
import numpy as np
def assertion(out, exp, atol):
    assert np.allclose(out, exp, rtol=1e-07, atol=1e-6)
inputs = [[[1, 2]], [[0.1] * 10]]
results = [3, 1.0]
for i, (inp, exp) in enumerate(zip(inputs, results)):
    assertion(total(*inp), exp, 0)
"""
BASIC = {
    "prompt": "Write a function total that adds numbers.",
    "response": "def total(xs):\r\n  return sum(xs)",
    "tests": ["assert total([1, 2]) == 3", "assert math.isclose(total([0.5]), 0.5)"],
    "imports": ["import math"],
}


def test_mbpp_instruction_has_the_first_test():
    text = mbpp.prompt(BASIC)
    assert text.endswith(
        'block:\n```\n"""\nWrite a function total that adds numbers.\nassert total([1, 2]) == 3\n"""\n```'
    )
    assert "isclose" not in text


def test_mbpp_tests_of_each_schema():
    """Sanitized and MBPP+ (a list of imports), full (one text), no imports; MBPP+'s own tests instead of the first."""
    first = "\n".join(BASIC["tests"])
    assert mbpp.tests(BASIC) == f"import math\n{first}"
    assert mbpp.tests({**BASIC, "imports": "import math"}) == f"import math\n{first}"
    for none in ({}, {"imports": []}, {"imports": ""}, {"imports": None}):
        assert mbpp.tests({"prompt": "p", "tests": BASIC["tests"], **none}).strip() == first
    assert mbpp.tests({**BASIC, "test": PLUS}) == f"import math\n{PLUS}"


@pytest.mark.parametrize("tests", [[], [""], ["  "]])
def test_mbpp_without_tests_stops_the_run(tests):
    with pytest.raises(UserError, match="mbpp: no tests for the task 'Write a function total"):
        mbpp.process_results({**BASIC, "tests": tests}, [B])


@pytest.mark.parametrize("more", [{}, {"test": PLUS}], ids=["mbpp", "mbpp+"])
def test_mbpp_verdicts(more):
    doc = {**BASIC, **more}
    right, wrong = BASIC["response"], "def total(xs):\n    return len(xs)"
    assert mbpp.process_results(doc, [f"```python\n{right}\n```"]) == {"paper": 1.0, "strict": 1.0}
    assert mbpp.process_results(doc, [right]) == {"paper": 1.0, "strict": 0.0}
    assert mbpp.process_results(doc, [f"```python\n{wrong}\n```"]) == {"paper": 0.0, "strict": 0.0}
    assert mbpp.process_results(doc, [""]) == {"paper": 0.0, "strict": 0.0}


def test_humaneval_plus_schema():
    """Its `test` imports numpy and compares with a tolerance in check; the same task file runs it."""
    plus = (
        PLUS.replace("total(", "candidate(")
        .replace("\nfor", "\ndef check(candidate):\n  for")
        .replace("\n    as", "\n      as")
    )
    doc = {**TASK, "test": plus.replace("exp, atol):\n      assert", "exp, atol):\n    assert")}
    assert humaneval.process_results(doc, [f"```python\n{RIGHT}\n```"]) == {"paper": 1.0, "strict": 1.0}
    assert humaneval.process_results(doc, ["    return 3"]) == {"paper": 0.0, "strict": 0.0}


@pytest.mark.parametrize(("name", "rows"), [("humaneval", [TASK]), ("mbpp", [BASIC, {**BASIC, "test": PLUS}])])
def test_lm_eval_loads_the_task_file(name, rows, tmp_path):
    from lm_eval.tasks import TaskManager

    path = tmp_path / "rows.jsonl"
    write_lines(path, [{"imports": [], "test": "", **row} for row in rows] if name == "mbpp" else rows)
    folder = Path(humaneval.__file__).parent
    task = TaskManager(include_path=str(folder), include_defaults=False, metadata={"path": str(path)}).load(name)
    task = task["tasks"][name]
    (doc, *_), module = list(task.test_docs()), {"humaneval": humaneval, "mbpp": mbpp}[name]
    assert task.doc_to_text(doc) == module.prompt(rows[0])
    assert task.doc_to_target(doc) == rows[0]["response"]
    assert task.process_results(doc, ["```python\ndef total(xs): return sum(xs)\n```"]) == {
        "paper": 1.0,
        "strict": 1.0,
    }
    assert set(task.aggregation()) == {"paper", "strict"}


def test_how_programs_ran_goes_into_the_record():
    assert humaneval.facts() == mbpp.facts() == {"sandbox": sandbox.facts()}
    assert json.loads(json.dumps(humaneval.facts()))["sandbox"]["kind"] in sandbox.KINDS


@pytest.fixture(scope="module")
def real(shared_data):
    with gzip.open(shared_data / "humaneval" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [{**row, "response": row["canonical_solution"]} for row in rows]


def judge(rows, answers, metric):
    humaneval.prepare(rows, answers)
    found = [humaneval.process_results(row, [answer])[metric] for row, answer in zip(rows, answers, strict=True)]
    return [row["entry_point"] for row, one in zip(rows, found, strict=True) if not one]


def test_all_canonical_solutions_pass(real):
    """As bodies under the paper's rule, as blocks under the strict one."""
    assert len(real) == 164
    assert judge(real, [row["response"] for row in real], "paper") == []


def test_no_empty_body_passes(real):
    assert len(judge(real, [""] * len(real), "paper")) == 164


def test_whole_functions_in_blocks(real):
    """The paper's rule loses one: the docstring of sorted_list_sum (HumanEval/149) holds the word it cuts at."""
    blocks = [f"Here it is:\n```python\n{row['prompt']}{row['response']}```" for row in real]
    assert judge(real, blocks, "paper") == ["sorted_list_sum"]
    assert judge(real, blocks, "strict") == []


def test_no_real_header_is_hurt_by_the_template(real):
    for row in real:
        assert row["prompt"].strip() in humaneval.prompt(row)
        ast.parse(row["prompt"])  # a header alone is a function, which an answer may define again


@pytest.fixture
def busy_machine():
    """Thirty processes that take all the time they can get."""
    spinning = [subprocess.Popen(["timeout", "600", sys.executable, "-c", "while True: pass"]) for _ in range(30)]
    try:
        yield
    finally:
        for process in spinning:
            process.terminate()
            process.wait()


@pytest.mark.slow
def test_long_programs_pass_on_a_busy_machine(real, busy_machine, monkeypatch):
    """Case 3: twenty reference solutions of 1 MB each, beside thirty busy processes."""
    monkeypatch.setattr(sandbox, "_outcomes", {})
    padding = "    # nothing\n" * (1_000_000 // len("    # nothing\n") + 1)
    assert judge(real[:20], [padding + row["response"] for row in real[:20]], "paper") == []
