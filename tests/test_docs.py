"""The site's pages: each is in the navigation, its links lead somewhere, and what the code cites of them is there."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from test_rooms import ROOMS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
NOTEBOOKS = {str(path.with_suffix(".md").relative_to(DOCS)) for path in DOCS.glob("notebooks/*.ipynb")}
MADE = {"project/contributing.md", "project/changelog.md", *NOTEBOOKS}  # by docs/hooks.py, from the checkout
FOLDERS = ("pissa_repro", "tests", "benchmarks", "rules", "config", "profiles", "docs")
CODE = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".smk", ".yaml", ".md"} and path != Path(__file__)
)
PITFALLS = (DOCS / "pitfalls.md").read_text(encoding="utf-8")
KNOWN = {int(number) for number in re.findall(r"^### (\d+)\. .*\{#pitfall-\1\}$", PITFALLS, flags=re.MULTILINE)}
FACTS = (DOCS / "paper_facts.md").read_text(encoding="utf-8")
SECTIONS = set(re.findall(r"^#+ ([\d.]+?)\.? .*\{#section-", FACTS, flags=re.MULTILINE))
NUMBERS = r"\d+(?:(?:, and |, | and | to )\d+)*"
# "traps 12 to 15", "pitfall 10", "pitfalls 20, 24"
PITFALL = re.compile(rf"\b(?:trap|pitfall)s? ({NUMBERS})", flags=re.IGNORECASE)
SECTION = re.compile(r"paper_facts(?:\.md)?(?:,? sections?)? (\d[\d.]*\d|\d)(?:, (\d[\d.]*\d))?")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def listed(entries: list) -> set[str]:
    """The pages that a navigation names, at whatever depth."""
    pages = set()
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        pages |= {value} if isinstance(value, str) else listed(value)
    return pages


def cited_pitfalls(text: str) -> set[int]:
    numbers = set()
    for group in PITFALL.findall(text):
        for first, last in re.findall(r"(\d+)(?: to (\d+))?", group):
            numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def cited_sections(text: str) -> set[str]:
    return {number for groups in SECTION.findall(text) for number in groups if number}


def anchors(page: Path) -> set[str]:
    """The ids of a page's headings, as mkdocs and GitHub make them."""
    ids = set()
    for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        text, _, given = heading.partition(" {#")
        ids.add(given.rstrip("}") or re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-"))
    return ids


def test_the_navigation_holds_every_page():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert listed(config["nav"]) == {str(page.relative_to(DOCS)) for page in PAGES} | MADE


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_has_one_title_and_says_something(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert page.parent.name == "embedded" or len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1
    assert len(re.sub(r"^#.*", "", text, flags=re.MULTILINE).split()) > 30


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config/README.md", *PAGES], ids=name
)
def test_relative_links_lead_somewhere(page):
    """mkdocs checks the site's own; this one checks them as GitHub shows the pages."""
    for target, _, anchor in re.findall(r"\]\(((?!https?:)[^)#\s]*)(#?)([^)\s]*)\)", page.read_text(encoding="utf-8")):
        there = page.parent / target if target else page
        made = page.is_relative_to(DOCS) and name(there.resolve()).removeprefix("docs/") in MADE
        assert there.exists() or made, f"{target}: no such file"
        assert not anchor or made or anchor in anchors(there), f"{target}#{anchor}: no such heading"


@pytest.mark.parametrize("path", [path for path in CODE if cited_pitfalls(path.read_text(encoding="utf-8"))], ids=name)
def test_cited_pitfalls_exist(path):
    assert set(range(1, len(KNOWN) + 1)) == KNOWN
    assert cited_pitfalls(path.read_text(encoding="utf-8")) <= KNOWN


def pitfalls_tested(text: str) -> set[int]:
    """The pitfalls that the docstring of a test names; of a test that has to pass, so no expected failure."""
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    tests = [node for node in functions if node.name.startswith("test_")]
    passing = [node for node in tests if not {"xfail", "fault"} & names_in(node.decorator_list)]
    return {number for node in passing for number in cited_pitfalls(ast.get_docstring(node) or "")}


def names_in(decorators: list[ast.expr]) -> set[str]:
    nodes = [node for decorator in decorators for node in ast.walk(decorator)]
    return {getattr(node, "attr", getattr(node, "id", "")) for node in nodes}


def test_every_pitfall_has_a_test_that_names_it():
    tested = {number for path in (ROOT / "tests").rglob("test_*.py")
              for number in pitfalls_tested(path.read_text(encoding="utf-8"))}  # fmt: skip
    assert not KNOWN - tested


def test_a_test_names_its_pitfall_in_its_docstring():
    made = 'def {}():\n    """{}"""\n'
    assert pitfalls_tested(made.format("test_a", "Pitfalls 3, 4.")) == {3, 4}
    assert not pitfalls_tested(made.format("helper", "Pitfall 3.") + "def test_b():\n    # pitfall 5\n    pass\n")
    for expected in ("@pytest.mark.xfail(strict=True)\n", '@fault("pitfall 3: x")\n'):
        assert not pitfalls_tested(expected + made.format("test_c", "Pitfall 3."))


@pytest.mark.parametrize("path", [path for path in CODE if cited_sections(path.read_text(encoding="utf-8"))], ids=name)
def test_cited_sections_of_the_paper_facts_exist(path):
    assert cited_sections(path.read_text(encoding="utf-8")) <= SECTIONS


@pytest.mark.parametrize("path", [path for path in CODE if "docs/" in path.read_text(encoding="utf-8")], ids=name)
def test_named_pages_exist(path):
    named = re.findall(r"(?<![\w/])docs/[\w/-]+\.(?:md|rst)", path.read_text(encoding="utf-8"))
    missing = [page for page in named if not (ROOT / page).exists() and page.removeprefix("docs/") not in MADE]
    assert not missing


def test_citations_are_found_in_every_form():
    assert cited_pitfalls("(traps 12 to 15), Pitfall 3; pitfalls 20, 24 and 25.") == {3, 12, 13, 14, 15, 20, 24, 25}
    assert cited_sections("docs/paper_facts.md 3.1, 3.2). paper_facts.md 3.") == {"3.1", "3.2", "3"}


def test_facts_cite_data_that_were_seen():
    """A key of the data file that the page names is there, and is no recollection."""
    data = yaml.safe_load((ROOT / "reference/paper_tables.yaml").read_text(encoding="utf-8"))
    tables = data["tables"] | data["followup_tables"]
    parts = data.keys() | {f"setup.{key}" for key in data["setup"]} | data["setup"].keys()
    words = set(re.findall(r"`([a-z][a-z_.\d]*_[a-z_.\d]*)`", FACTS))
    cited = words & tables.keys()
    assert len(cited) > 20
    assert not {key for key in cited if tables[key].get("confidence") == "memory_not_seen"}
    others = {"memory_not_seen", "loss_landscape", "gate_proj", "pissa_niter_4", "pissa_niter_16"}  # no keys
    assert words - tables.keys() - parts == others


def test_every_config_key_has_a_row():
    schema = yaml.safe_load((ROOT / "config/schema.yaml").read_text(encoding="utf-8"))
    page = (DOCS / "reference/config.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL))
    assert schema["properties"].keys() <= sections.keys()
    for section, text in sections.items():
        definition = schema["$defs"].get(section) or schema["$defs"][section.removesuffix("s")]
        rows = re.findall(r"^\| (`[^|]+`) \|", text, flags=re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", " ".join(rows))) == definition["properties"].keys(), section


def test_the_drawing_of_the_floors_is_that_of_the_code():
    text = (DOCS / "project/architecture.md").read_text(encoding="utf-8")
    drawing = re.search(r"<!-- floors -->\n```text\n(.*?)```\n<!-- /floors -->", text, flags=re.DOTALL)[1]
    drawn = [tuple(line.split(" | ")) for line in drawing.splitlines()]
    assert drawn[::-1] == [tuple(floor) for floor in ROOMS]
