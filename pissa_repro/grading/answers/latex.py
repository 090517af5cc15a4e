r"""Answers written in LaTeX: the one in the last \boxed, and the released scorer's text equality."""

import re

# One backslash and what follows it is one unit, so that \{ and \} are not counted as braces.
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def boxed(text: str) -> str | None:
    r"""What the last \boxed holds, or the last \fbox where there is no \boxed; None where there is neither.

    \boxed{5}, \boxed {5} and \boxed 5 are read; braces may nest. A box that is never closed is None.
    """
    for command in ("\\boxed", "\\fbox"):
        _, box, tail = text.rpartition(command)
        if box:
            tail = tail.lstrip()
            return _group(tail) if tail.startswith("{") else _bare(tail)
    return None


def _group(text: str) -> str | None:
    depth = 0
    for match in BRACE.finditer(text):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return text[1 : match.start()].strip()
    return None


def _bare(text: str) -> str | None:
    r"""\boxed without braces: up to the end of the formula or of the line."""
    return re.split(r"\$|\n|\\\]|\\\)", text)[0].strip().removesuffix(".") or None


def normalised(answer: str) -> str:
    r"""The answer in the form that the released scorer compares.

    Behaviour of strip_string in GraphPKU/PiSSA test_acc.py, which follows hendrycks/math
    modeling/math_equivalence.py (Hendrycks et al. 2021). Its faults are kept, because the published
    numbers were made with them: \sqrt 3 becomes \sqrt{}3, 3,\!000 differs from 3000, 2,1 from 1,2.

    Raises ValueError where the released code fails: two "\text{ ", a \sqrt or \frac with nothing
    behind it, and one slash that is not between two integers ("x/2").
    """
    text = answer.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    for dropped in ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$"):
        text = text.replace(dropped, "")
    text = _without_units(text).replace("\\%", "").replace("\\%", "")  # two passes, as there
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    text = "0" + text if text.startswith(".") else text
    left, equals, right = text.partition("=")
    if equals and len(left) <= 2 and "=" not in right:
        text = right
    text = _fractions(_roots(text).replace(" ", ""))
    return _slash("\\frac{1}{2}" if text == "0.5" else text)


def same_text(answer: str, reference: str) -> bool:
    """Equality by the released scorer: in normalised form, or as they stand if either has none."""
    try:
        return normalised(answer) == normalised(reference)
    except ValueError:
        return answer == reference


def _without_units(text: str) -> str:
    number, *units = text.split("\\text{ ")  # with the space: that is how MATH writes units
    if len(units) > 1:
        raise ValueError("more than one unit")
    return number


def _roots(text: str) -> str:
    r"""\sqrt3 -> \sqrt{3}: one character, whatever it is."""
    head, *tails = text.split("\\sqrt")
    if not all(tails):
        raise ValueError("nothing under a root")
    return head + "".join("\\sqrt" + (tail if tail[0] == "{" else f"{{{tail[0]}}}{tail[1:]}") for tail in tails)


def _fractions(text: str) -> str:
    r"""\frac12 -> \frac{1}{2}, \frac1{72} -> \frac{1}{72}; \frac{72}1 stays."""
    head, *tails = text.split("\\frac")
    for tail in tails:
        if not tail:
            raise ValueError("an empty fraction")
        if len(tail) == 1 and tail != "{":
            return text
    return head + "".join("\\frac" + _both_braced(tail) for tail in tails)


def _both_braced(tail: str) -> str:
    if tail[0] == "{":
        return tail
    below = tail[1:] if tail[1] == "{" else f"{{{tail[1]}}}{tail[2:]}"
    return f"{{{tail[0]}}}{below}"


def _slash(text: str) -> str:
    r"""3/4 -> \frac{3}{4}, for integers as Python writes them: 03/4 stays."""
    parts = text.split("/")
    if len(parts) != 2:
        return text
    above, below = (int(part) for part in parts)
    return f"\\frac{{{above}}}{{{below}}}" if text == f"{above}/{below}" else text
