"""The two answer rules of MATH: the released text equality with its faults, and equality by math-verify."""

import gzip
import itertools
import json
from pathlib import Path

import pytest

from pissa_repro.grading.answers import equivalence
from pissa_repro.grading.answers.equivalence import LONGEST, equivalent
from pissa_repro.grading.answers.latex import boxed
from pissa_repro.runtime.errors import UserError
from pissa_repro.tasks.hendrycks_math import last_answer, paper_answer, process_results, reference
from pissa_repro.tasks.rows import prompt

TASKS = Path(__file__).resolve().parent.parent / "pissa_repro" / "tasks"
M = "The answer is: "
# reference, answer, equal by the paper's rule, equal by math-verify
PAIRS = [
    (r"\frac{1}{2}", "0.5", True, True),
    (r"\frac{1}{2}", "1/2", True, True),
    (r"\frac{1}{2}", r"\dfrac12", True, True),
    (r"\frac{1}{2}", "0.50", False, True),
    (r"\frac{1}{2}", "2/4", False, True),
    (r"\frac{1}{2}", r"$\frac{1}{2}$", False, True),
    (r"\frac{1}{2}", r"\boxed{\frac{1}{2}}", False, True),
    (r"\frac{1}{3}", "0.333333", False, True),
    (r"\frac{1}{3}", "0.33", False, False),
    (r"\frac{x}{2}", r"\frac{1}{2}x", False, True),
    (r"\frac{x}{2}", "x/2", False, True),
    ("x^2+2x+1", "(x+1)^2", False, True),
    (r"2\sqrt{2}", r"\sqrt8", False, True),
    (r"1\frac{1}{2}", r"\frac{3}{2}", False, True),
    (r"\frac{11}{2}", "1 1/2", True, False),  # the paper's fault again
    ("5", "x=5", True, True),
    ("5", "total = 5", False, True),
    ("5", "5.", True, True),
    ("5", "5.0", False, True),
    ("5", "6", False, False),
    ("5", "", False, False),
    ("5", "5 or 6", False, False),
    ("1,2", "2,1", False, True),
    (r"\{1,2\}", r"\{2,1\}", False, True),
    ("(1,2)", "(2,1)", False, False),
    ("(1,2)", "[1,2]", False, False),
    ("[1,2]", r"x \in [1,2]", False, True),
    (r"(3,4]", r"\left(3,4\right]", True, True),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", True, True),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}", False, True),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}", False, False),
    (r"18 \text{ cm}", "18", True, True),
    (r"18 \text{ cm}", r"18 \text{ m}", True, True),
    ("18", r"18\text{cm}^2", False, True),
    ("1234", "1,234", False, True),
    (r"10,\!080", "10080", False, True),
    (r"10,\!080", "10,080", True, True),
    ("18", r"18\%", True, True),
    ("18", "18%", False, True),
    (r"18\%", "0.18", False, True),
    (r"90^\circ", "90", True, True),
    (r"\$36", "$36", False, True),
    (r"\$36", "36", True, True),
    (r"\text{Evelyn}", "Evelyn", False, True),
    (r"\text{(C)}", "C", False, True),
    (r"\text{(C)}", r"\text{(B)}", False, False),
    ("2", "2}", False, True),
    ("2", "{2", False, False),
    ("2", r"\frac{", False, False),
    ("3", "\u0663", False, False),
    ("2", "9" * 10_000, False, False),
]


@pytest.mark.parametrize(("wanted", "answer", "paper", "verified"), PAIRS, ids=lambda value: repr(value)[:24])
def test_both_rules(wanted, answer, paper, verified):
    doc = {"prompt": "?", "response": rf"So it is $\boxed{{{wanted}}}$."}
    assert process_results(doc, [f"Well.\n{M}{answer}"]) == {"paper": float(paper), "math_verify": float(verified)}


def test_without_the_marker_the_paper_rule_has_no_answer():
    doc = {"prompt": "?", "response": r"\boxed{5}"}
    for text in ("", "5", "The answer is 5", "the answer is: 5", "The answer is:5"):
        assert paper_answer(text) is None
        assert process_results(doc, [text]) == {"paper": 0.0, "math_verify": 0.0}
    assert process_results(doc, [r"It is $\boxed{5}$."]) == {"paper": 0.0, "math_verify": 1.0}


def test_the_last_of_several_markers_counts():
    doc = {"prompt": "?", "response": r"\boxed{2}"}
    text = f"{M}1\nNo. {M}2"
    assert paper_answer(text) == last_answer(text) == "2"
    assert process_results(doc, [text]) == {"paper": 1.0, "math_verify": 1.0}
    text += rf".\n$\boxed{{2}}$. {M}"
    assert paper_answer(text) == last_answer(text) == "", "an earlier answer stood in for a missing last one"
    assert process_results(doc, [text]) == {"paper": 0.0, "math_verify": 0.0}


def test_math_verify_reads_the_first_line_after_the_marker():
    assert last_answer(f"{M}5\nThat is it.") == "5"
    assert last_answer(f"{M}\n5.\n6") == "5"
    assert process_results({"response": r"\boxed{5}"}, [f"{M}5\nThat is it"]) == {"paper": 0.0, "math_verify": 1.0}


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"So $\boxed{5}$.", "5"),
        (r"$\boxed{1}$, no, $\boxed{2}$.", "2"),
        (r"$\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
        (r"$\boxed{\left\{ x \mid x > 0 \right\}}$", r"\left\{ x \mid x > 0 \right\}"),
        (r"$\boxed{\left\{ x \right.}$", r"\left\{ x \right."),  # one escaped brace opens nothing
        (r"\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        (r"$\boxed 5$", "5"),
        (r"$\boxed {5}$", "5"),
        (r"\[\boxed 5\]", "5"),
        (r"Then \boxed 5." + "\nDone.", "5"),
        (r"$\fbox{7}$", "7"),
        (r"$\fbox{7}$ and $\boxed{8}$ and $\fbox{9}$", "8"),
        (r"$\boxed{ 5 }$", "5"),
    ],
)
def test_reference(response, answer):
    assert reference(response) == boxed(response) == answer


@pytest.mark.parametrize("response", ["", "5", r"\boxed", r"\boxed{}", r"\boxed{ }", r"\boxed{5", r"$\boxed $"])
def test_a_row_without_a_boxed_answer_stops_the_run(response):
    with pytest.raises(UserError, match=r"no answer in a \\boxed"):
        reference(response)


def test_answers_that_hang_or_kill_math_verify_are_wrong_and_counted(monkeypatch):
    monkeypatch.setattr(equivalence, "_child", equivalence._Child(cpu_seconds=0))
    before = equivalence.cut_off
    assert not equivalent("2", "9^{9^{9^{9}}}")  # the kernel ends this child before math-verify's own alarm at 5 s
    assert equivalence.cut_off == before + 1 and equivalence._child is None
    assert equivalent("2", "4/2"), "the next answer suffered"
    equivalence._child.process.kill()
    assert not equivalent("2", "4/2")
    assert equivalence.cut_off == before + 2
    assert equivalent("2", "6/3")


def test_a_long_answer_is_not_given_to_math_verify():
    assert equivalent("2", "2" + " " * (LONGEST - 1))
    assert not equivalent("2", "2" + " " * LONGEST)


@pytest.fixture(scope="module")
def math500(shared_data):
    with gzip.open(shared_data / "math" / "math500.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_the_boxed_answer_is_the_published_one(math500):
    assert len(math500) == 500
    assert [row["answer"] for row in math500] == [reference(row["solution"]) for row in math500]


def test_a_perfect_answer_is_right_by_both_rules(math500):
    """All 500 by both: math-verify reads every reference of MATH-500, or finds the same text."""
    for row in math500:
        perfect = f"{row['solution']}\n{M}{row['answer']}"
        assert process_results({"response": row["solution"]}, [perfect]) == {"paper": 1.0, "math_verify": 1.0}


def test_a_wrong_answer_is_wrong_by_both_rules(math500):
    for row in math500:
        result = process_results({"response": row["solution"]}, [f"{row['solution']}\n{M}12345678"])
        assert result == {"paper": 0.0, "math_verify": 0.0}


def test_another_rows_answer_is_right_only_where_it_means_the_same(math500):
    pairs = [(one["answer"], next_["answer"]) for one, next_ in itertools.pairwise(math500)]
    pairs = [(wanted, answer) for wanted, answer in pairs if wanted != answer]
    results = [process_results({"response": rf"\boxed{{{wanted}}}"}, [M + answer]) for wanted, answer in pairs]
    assert len(pairs) == 497
    for metric in ("paper", "math_verify"):
        assert [pair for pair, result in zip(pairs, results, strict=True) if result[metric]] == [("5", "x=5")]


def test_through_lm_eval(tmp_path):
    """The task file itself: the paper's prompt goes out, and the means of both metrics come back."""
    from lm_eval.api.model import LM
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    class Stored(LM):
        def generate_until(self, requests, disable_tqdm=False):
            assert requests[0].args == (prompt({"prompt": "How many?"}), {"do_sample": False, "until": []})
            return [f"{M}0.5", f"{M}0.50", "0.5", f"{M}2"]

        def loglikelihood(self, requests, disable_tqdm=False):
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    rows = [{"prompt": "How many?", "response": r"It is $\boxed{\frac{1}{2}}$."}] * 4
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"path": str(path)})
    results = simple_evaluate(Stored(), tasks=["math"], task_manager=manager, bootstrap_iters=1)["results"]["math"]
    assert (results["paper,none"], results["math_verify,none"]) == (0.25, 0.5)
