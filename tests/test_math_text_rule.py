"""The paper's answer rule of MATH: the released text equality with its faults."""

import pytest

from pissa_repro.grading.answers.latex import normalised, same_text
from pissa_repro.tasks.hendrycks_math import paper_answer

M = "The answer is: "

# What stands after the marker, and the text that is compared.
CASES = [
    # nothing to change
    ("42", "42"),
    ("-7", "-7"),
    ("p - q", "p-q"),
    ("(3,4]", "(3,4]"),
    ("", ""),
    ("   ", ""),
    # where the answer ends: a dot at the end of a line, and one dot at the very end
    ("42.", "42"),
    ("42. ", "42"),
    ("42 .", "42"),
    ("42..", "42."),
    ("42.\nSo it is.", "42"),
    ("42.\n\n### Instruction:\nNext", "42"),
    ("42 .\n43", "42"),
    ("3.14", "3.14"),
    (".\n42", ""),
    # a line end without a dot is only dropped
    ("42\nSo it is", "42Soitis"),
    ("\n42", "42"),
    ("1\n2", "12"),
    # size and spacing commands
    (r"\dfrac{1}{2}", r"\frac{1}{2}"),
    (r"\tfrac{1}{2}", r"\frac{1}{2}"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
    (r"10,\!080", "10,080"),
    (r"\\frac{1}{2}", r"\frac{1}{2}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\2\end{pmatrix}"),
    (r"x \leftarrow y", "xarrowy"),  # a fault: \left is cut out of \leftarrow
    # degrees, money, percent
    (r"90^\circ", "90"),
    (r"90^{\circ}", "90"),
    (r"90 ^ \circ", r"90^\circ"),
    (r"90\degree", r"90\degree"),
    (r"\$18.90", "18.90"),
    ("$18.90", "$18.90"),
    (r"25\%", "25"),
    ("25%", "25%"),
    # units: only the form \text{ and a space
    (r"5.4 \text{ cents}", "5.4"),
    (r"18\text{ cm}^2", "18"),
    (r"\frac{270}7\text{ degrees}", r"\frac{270}7"),
    (r"18 \text{cm}", r"18\text{cm}"),
    (r"18 \mbox{ cm}", r"18\mbox{cm}"),
    ("18 cm", "18cm"),
    (r"\text{Evelyn}", r"\text{Evelyn}"),
    (r"\text{ even}", ""),
    # a leading dot
    (".5", r"\frac{1}{2}"),
    (".25", "0.25"),
    ("-.5", "-.5"),
    ("x + .5", "x+0.5"),
    (r"\frac{.5}{2}", r"\frac{0.5}{2}"),
    ("0.5", r"\frac{1}{2}"),
    ("0.50", "0.50"),
    ("1.5", "1.5"),
    # a short left side
    ("x = 5", "5"),
    ("k=5", "5"),
    ("x  = 5", "x=5"),  # three characters before the sign
    ("ab=5", "5"),
    ("abc=5", "abc=5"),
    ("x=y=5", "x=y=5"),
    ("=5", "5"),
    ("x \\in [1,2]", "x\\in[1,2]"),
    # roots
    (r"\sqrt3", r"\sqrt{3}"),
    (r"\sqrt{3}", r"\sqrt{3}"),
    (r"\sqrt12", r"\sqrt{1}2"),
    (r"\sqrt 3", r"\sqrt{}3"),  # a fault: spaces go later
    (r"\sqrt[3]{2}", r"\sqrt{[}3]{2}"),
    (r"2\sqrt2+\sqrt{3}", r"2\sqrt{2}+\sqrt{3}"),
    # fractions
    (r"\frac12", r"\frac{1}{2}"),
    (r"\frac1{72}", r"\frac{1}{72}"),
    (r"\frac{72}1", r"\frac{72}1"),
    (r"\frac 1 2", r"\frac{1}{2}"),
    (r"\frac123", r"\frac{1}{2}3"),
    (r"\frac1", r"\frac1"),
    (r"\frac12+\frac3", r"\frac12+\frac3"),  # one short fraction leaves all of them
    (r"\frac{1}{2}x", r"\frac{1}{2}x"),
    (r"\frac{", r"\frac{"),
    ("1/2", r"\frac{1}{2}"),
    ("-3/4", r"\frac{-3}{4}"),
    (" 10 / 4 ", r"\frac{10}{4}"),
    ("01/2", "01/2"),
    ("1/2/3", "1/2/3"),
    # mixed numbers, sets, braces that do not match
    (r"1\frac{1}{2}", r"1\frac{1}{2}"),
    ("1 1/2", r"\frac{11}{2}"),  # a fault: 1 1/2 becomes eleven halves
    (r"\{1,2\}", r"\{1,2\}"),
    ("2}", "2}"),
    ("{2", "{2"),
    # thousands, other scripts, the very long
    ("1,234,567", "1,234,567"),
    ("1{,}234", "1{,}234"),
    ("\u0663", "\u0663"),
    ("\u0663/4", "\u0663/4"),
    ("9" * 10_000, "9" * 10_000),
]


@pytest.mark.parametrize(("text", "compared"), CASES, ids=lambda value: repr(value)[:24])
def test_the_paper_rule_compares(text, compared):
    assert normalised(paper_answer(f"2 + 3 = 5.\n{M}{text}")) == compared


@pytest.mark.parametrize(
    "answer",
    [r"2\sqrt", r"\sqrt\sqrt{2}", r"\frac", r"1+\frac\frac12", r"1 \text{ a} \text{ b}", "x/2", r"\frac{a/b}{2}", "1/",
     "9" * 10_000 + "/3"],
)  # fmt: skip
def test_an_answer_without_a_normal_form_is_compared_as_it_stands(answer):
    with pytest.raises(ValueError):
        normalised(answer)
    assert same_text(answer, answer)
    assert not same_text(answer, answer + " "), "spaces were dropped although the released code had given up"
    assert not same_text(r"\frac{x}{2}", answer)
