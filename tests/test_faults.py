"""docs/faults.md: its lines print what it says, its versions are the pinned ones, and every strict xfail is on it."""

import ast
import re

import pytest
from printed import BLOCK, by_python, by_shell, entries, first_block

from pissa_repro.plan.config import ROOT

PAGE = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
ENTRIES = entries(PAGE)
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
NOT_RUN = "\nNot run by the tests: "
PLACE = re.compile(r"`((?:pissa_repro|rules|profiles)/[\w./]+)`")
PINS = {
    name: version
    for file in ("constraints.txt", "pyproject.toml")
    for name, version in re.findall(r"([\w-]+)==([\w.]+)", (ROOT / file).read_text(encoding="utf-8"))
}


def blocks(language: str) -> list[tuple[str, str, str]]:
    """Heading, code and what it is to print, of the blocks that are run."""
    found = [(one.title, *block) for one in ENTRIES for block in BLOCK.findall(one.text)]
    return [(title, code, said) for title, kind, code, said in found if kind == language and said]


PYTHON, SHELL = blocks("python"), blocks("sh")


def expected_failures() -> set[tuple[str, str]]:
    """Every strict xfail of the suite: the file and the name of the test."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(map(strict, node.decorator_list)):
                found.add((path.relative_to(ROOT).as_posix(), node.name))
    return found


def strict(decorator: ast.expr) -> bool:
    """Whether a decorator expects a failure, by `xfail(strict=True)` or by a function `fault` that says so."""
    text = ast.unparse(decorator)
    return text.startswith("fault(") or ("mark.xfail(" in text and "strict=True" in text)


def same(found: str, said: str) -> bool:
    """Whether a block has printed what the page says, where " ..." stands for any text."""
    wanted = ".*".join(map(re.escape, said.rstrip().split(" ...")))
    return re.fullmatch(wanted, found.rstrip(), flags=re.DOTALL) is not None


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What the blocks of Python print, by heading."""
    made = by_python([first_block(PAGE), *(code for _, code, _ in PYTHON)], tmp_path_factory.mktemp("faults"))
    return dict(zip((title for title, *_ in PYTHON), made, strict=True))


@pytest.mark.parametrize(("title", "code", "said"), PYTHON, ids=[title for title, *_ in PYTHON])
def test_lines_of_python_print_what_the_page_says(title, code, said, printed):
    assert same(printed[title], said), printed[title]


@pytest.mark.parametrize(("title", "code", "said"), SHELL, ids=[title for title, *_ in SHELL])
def test_commands_print_what_the_page_says(title, code, said, tmp_path):
    assert by_shell(code, tmp_path) == said


def test_every_entry_has_lines_and_our_way():
    assert len({one.title for one in ENTRIES}) == len(ENTRIES) == len(PYTHON) + len(SHELL) + PAGE.count(NOT_RUN)
    for one in ENTRIES:
        shown = [said for _, _, said in BLOCK.findall(one.text)]
        assert len(shown) == 1 and bool(shown[0]) != (NOT_RUN in one.text), one.title
        assert "*Here:*" in one.text, one.title


def test_every_strict_xfail_is_on_the_page_and_each_that_it_names_is_one():
    mended = {place for one in ENTRIES for place in NAMED.findall(one.text.partition("*Mended?*")[2])}
    assert expected_failures() == mended and len(mended) >= 20


def test_every_test_and_file_that_the_page_names_is_there():
    for path, name in NAMED.findall(PAGE):
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE), name
    assert not [place for place in PLACE.findall(PAGE) if not (ROOT / place).exists()]


def test_the_versions_are_the_pinned_ones():
    names = {"PEFT": "peft", "TRL": "trl", "vLLM": "vllm", "PyYAML": "pyyaml", "Snakemake": "snakemake"}
    for library in {one.library for one in ENTRIES}:
        name, version = library.split()
        assert PINS[names.get(name, name)] == version, library


def test_another_output_is_noticed():
    assert same("a\nb\n", "a\nb\n") and same("Error: long\nand more\n", "Error: lo ...\n")
    assert not same("a\n", "a\nb\n") and not same("a\nb\n", "a\n") and not same("", "a ...\n")


def test_a_strict_xfail_is_found_in_both_forms():
    marks = {"pytest.mark.xfail(strict=True, reason='x')": True, "fault('x', ValueError)": True}
    for text, wanted in (marks | {"pytest.mark.xfail(reason='x')": False, "pytest.fixture": False}).items():
        assert strict(ast.parse(text, mode="eval").body) is wanted
