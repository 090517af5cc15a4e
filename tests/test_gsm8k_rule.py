"""The two answer rules of GSM8K: the paper's, with its faults kept, and the strict one (pitfall 22)."""

import gzip
import json
from fractions import Fraction

import pytest

from pissa_repro.runtime.errors import UserError
from pissa_repro.sources.rows import gsm8k_response
from pissa_repro.tasks.gsm8k import (
    check,
    last_number,
    paper_answer,
    process_results,
    reference,
    reread,
    strict_answer,
)
from pissa_repro.tasks.rows import prompt

M = "The answer is: "
HALF = Fraction(1, 2)

# generated text, the paper's answer, the strict answer
CASES = [
    ("18", 18, 18),
    ("-7", -7, -7),
    ("+7", 7, 7),
    ("007", 7, 7),
    ("0", 0, 0),
    # the paper rounds, half to even
    ("3.4", 3, Fraction("3.4")),
    ("2.5", 2, Fraction("2.5")),
    ("3.5", 4, Fraction("3.5")),
    ("-0.5", 0, -HALF),
    ("0.50", 0, HALF),
    (".5", 0, None),
    ("18.00", 18, 18),
    ("3.14.15", 3, None),
    # one separator is all the paper sees
    ("1,234", 1234, 1234),
    ("1,234,567", 1234, 1234567),
    ("1,234.56", 1234, Fraction("1234.56")),
    ("12,34", 1234, None),
    ("1234,567", 1234567, None),
    ("1, 2", 1, None),
    (",5", 5, None),
    # fractions
    ("1/2", 0, None),
    ("3/2", 2, None),
    ("-3/4", -1, None),
    ("10/4", 2, None),
    ("5/0", 5, None),
    ("3/00", 3, None),
    ("/5", None, None),
    ("-/5", None, None),
    ("5/", 5, None),
    # signs and units
    ("$5", 5, 5),
    ("$-5", -5, -5),
    ("-$5", 5, None),
    ("5%", 5, None),
    ("5 dollars", 5, None),
    ("€5.75", 6, None),
    ("- 5", 5, None),
    ("5-3", 5, None),
    ("x = 42", 42, None),
    ("**8**", 8, None),
    (r"\boxed{9}", 9, None),
    ("1e5", 1, None),
    ("10^2", 10, None),
    ("42.", 42, 42),
    ("42..", 42, None),
    # what follows on other lines
    ("6\nThat is it.", 6, 6),
    ("6\n7", 6, 6),
    ("\n6", 6, None),
    ("  6  ", 6, 6),
    # no number
    ("", None, None),
    ("   \n", None, None),
    ("six", None, None),
    ("inf", None, None),
    ("nan", None, None),
    ("-", None, None),
    ("$", None, None),
    (".", None, None),
    # other scripts: the pattern's \d takes them, the strict rule does not
    ("\u0663", 3, None),
    ("\uff11\uff12", 12, None),
    ("\u00b2", None, None),
    ("\u221216", 16, -16),  # pattern and strict rule: only the second knows the typographic minus
    ("$\u22127.5.", 8, Fraction("-7.5")),
    ("\u2212\u22127", 7, None),
    # beyond any reference; no crash, and nothing that could pass for right
    ("9" * 17, 10**17, 10**17 - 1),
    ("9" * 400, None, None),
    ("9" * 10_000, None, None),
    ("9" * 400 + "/3", None, None),
    ("1/" + "9" * 10_000, None, None),
    ("1" + ",000" * 2_000, 1000, None),
]


@pytest.mark.parametrize(("text", "paper", "strict"), CASES, ids=lambda value: repr(value)[:24])
def test_both_rules(text, paper, strict):
    """Pitfall 22."""
    assert paper_answer(f"2 + 3 = 5\n{M}{text}") == paper
    assert strict_answer(f"2 + 3 = 5\n{M}{text}") == strict


@pytest.mark.parametrize("text", ["", "42", "#### 42", "The answer is 42", "The answer is:42", "the answer is: 42"])
def test_without_the_marker_there_is_no_answer(text):
    assert paper_answer(text) is None and strict_answer(text) is None


def test_the_last_of_several_markers_counts():
    text = f"{M}1\nNo. {M}2\n### Instruction:\n{M}3"
    assert paper_answer(text) == 3 and strict_answer(text) == 3
    assert paper_answer(text + f"\n{M}") is None, "an earlier answer stood in for a missing last one"
    assert strict_answer(text + f"\n{M}") is None


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("work\n#### 18", 18), ("#### 1,234,567", 1234567), ("#### -5", -5), ("####  7 ", 7),
        ("#### 2.50", Fraction("2.5")), ("#### 1\n#### 2", 2),
    ],
)  # fmt: skip
def test_reference(response, value):
    assert reference(response) == value


@pytest.mark.parametrize("response", ["18", "", "####", "#### ", "#### eighteen", "#### 18\nmore", "#### 1/0"])
def test_a_row_without_a_reference_number_stops_the_run(response):
    with pytest.raises(UserError, match="no number after '####'"):
        reference(response)


REFERENCES = {  # what stands after '####' -> its value, or None where it is refused
    "1/2": None, ".5": None, "1e3": None, "1_000": None, "1,23": None, "12,34": None, "1,2345": None, "0x10": None,
    "7%": None, "- 7": None, "--7": None, "\u0663": None, "7 8": None, "nan": None, "9" * 400: None,
    "7.": 7, "$7": 7, "+7": 7, "007": 7, "0.5": HALF, "1,234.50": Fraction("1234.5"), "\u22127": -7, "7\r": 7,
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), REFERENCES.items(), ids=[repr(text)[:12] for text in REFERENCES])
def test_a_reference_is_refused_or_scores_itself(text, value):
    """Case 18: what training makes of a reference is right by the strict rule, or the row stops the run."""
    response = f"work\n#### {text}"
    if value is None:
        with pytest.raises(UserError, match="no number after '####'.*such as 7, -7, 1,234"):
            check({"response": response})
    else:
        assert strict_answer(gsm8k_response(response)) == reference(response) == value


def test_metrics_of_one_item():
    doc = {"prompt": "How many?", "response": "#### 3"}
    assert process_results(doc, [f"{M}3"]) == {"paper": 1.0, "strict": 1.0}
    assert process_results(doc, [f"{M}3.4"]) == {"paper": 1.0, "strict": 0.0}
    assert process_results(doc, [f"{M}4"]) == {"paper": 0.0, "strict": 0.0}
    assert process_results(doc, [""]) == {"paper": 0.0, "strict": 0.0}
    assert process_results({"response": "#### 1,234,567"}, [f"{M}1,234,567"]) == {"paper": 0.0, "strict": 1.0}


def test_the_task_asks_the_question_as_it_is():
    assert prompt({"prompt": "Q {x}?"}) == "Q {x}?"


def real_rows(folder, split):
    with gzip.open(folder / "gsm8k" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_every_real_reference_is_a_number(shared_data):
    rows = real_rows(shared_data, "test")
    assert len(rows) == 1319
    assert all(reference(row["answer"]).denominator == 1 for row in rows)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_perfect_answer_is_right_by_both_rules(shared_data, split):
    """Save numbers of a million and more, which the paper's rule reads as thousands."""
    for row in real_rows(shared_data, split):
        wanted, perfect = reference(row["answer"]), gsm8k_response(row["answer"])
        assert strict_answer(perfect) == wanted
        if "," not in perfect.rpartition(",")[0].rpartition(M)[2]:
            assert paper_answer(perfect) == wanted


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("18", 18), ("It is 18.", 18), ("x = -2", -2), ("10-2", 2), ("(3)-4", 4), ("\u22127", -7), ("$-5", -5),
        ("-$5", -5), ("1,234,567 in all", 1234567), ("1,2345", 2345), ("12,34", 34), (".5", HALF),
        ("2.50", Fraction("2.5")), ("first 3, then 4 people", 4), (M + "7\nso 7 + 1 = 8", 8), ("none", None),
        ("", None), ("9" * 301, None),
    ],
)  # fmt: skip
def test_the_last_number_of_a_text(text, number):
    assert last_number(text) == number


def test_a_kept_answer_is_read_again_without_its_marker():
    assert reread("so\n#### 1,234", "It is 1234.") == {"last_number": 1.0, "marker": 0.0}
    assert reread("#### 7", M + "8") == {"last_number": 0.0, "marker": 1.0}
