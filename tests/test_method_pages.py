"""Each method's page is made of its file and of a start of it; no method is named here."""

import csv
import re

import pytest
import yaml
from commands import pissa
from plugged import plugged, text

from pissa_repro import methods
from pissa_repro.plan.config import ROOT
from pissa_repro.starts import described

TABLE = ROOT / "docs/reproduction/embedded/scores.csv"


def test_each_method_has_a_page_and_the_index_lists_it(hooks):
    pages = {path: page for path, page in hooks.pages().items() if path.startswith("methods/")}
    assert pages.keys() == {f"methods/{name}.md" for name in methods.names()}
    index = hooks.method_list()
    for name in methods.names():
        method, page = methods.load(name), pages[f"methods/{name}.md"]
        assert page.startswith(f"# {method.DISPLAY}\n") and f"[{method.DISPLAY}]({name}.md)" in index
        assert all(f"(https://arxiv.org/abs/{number})" in page for number in described.papers(method))
        assert all(f"| {hooks.prose(option)} |" in page for option, _, _ in described.options(name))
        assert ("## Deviations" in page) == ("\nDeviations: " in method.__doc__)


def test_all_pages_read_each_config_once(hooks, monkeypatch):
    """YAML is slow to parse: read for each row of each page, the configs took a minute of every `make docs`."""
    hooks.named.cache_clear()
    read, parse = [], yaml.safe_load
    monkeypatch.setattr(yaml, "safe_load", lambda text: read.append(text) or parse(text))
    for name in methods.names()[:2]:
        hooks.method_page(name)
    assert len(read) == len(set(read)) == len(list((ROOT / "config").glob("*.yaml")))


def test_the_navigation_gets_the_pages(hooks):
    class Config:
        nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    (listed,) = (entry["Methods"] for entry in hooks.on_config(Config).nav if "Methods" in entry)
    assert listed == ["methods/index.md", *(f"methods/{name}.md" for name in methods.names())]


def test_a_page_has_the_rows_of_the_tables_of_this_site(hooks):
    """The page of the embedded sweep has the same numbers, in percent."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        cells = {(row["method"], row["display"]) for row in csv.DictReader(file)}
    page = TABLE.with_name("gsm8k_table.md").read_text(encoding="utf-8")
    for name, display in cells:
        loss, score = re.search(rf"^\| {display} \|.*? \| (\S+ ± \S+) \| (\S+) ±", page, re.MULTILINE).groups()
        assert f" {float(score) / 100:.4f} ± " in hooks.results(name) and f" {loss} " in hooks.results(name)


def test_a_page_has_what_a_method_costs(hooks, monkeypatch, tmp_path):
    """Start and statistics are a tenth of the training; a method without a start has no share, a variant a row."""
    head = (
        "method,config_method,quant,start_seconds,statistics_seconds,train_seconds_mean,step_to_lora,peak_memory_gib,update,"
        "forgotten\n"
    )
    kept = tmp_path / "docs/reproduction/side/baselines.csv"
    kept.parent.mkdir(parents=True)
    kept.write_text(
        f"{head}One,one,nf4,1.5,2.5,40,1.25,0.9,0.01,-0.2\nWhole,whole,none,,,50,,0.9,0.1,\nB,of-one,none,,,9,,,,\n",
        encoding="utf-8",
    )
    defined = tmp_path / "config/mine.yaml"
    defined.parent.mkdir()
    defined.write_text("methods: {of-one: {init: one, lora: {use_dora: true}}}", encoding="utf-8")
    monkeypatch.setattr(hooks, "ROOT", tmp_path)
    assert "| side | One | nf4 | 1.5 | 2.5 | 40 | 1.25 | 0.9 | 0.01 | -0.2 | 10.0 |\n| side | B |" in hooks.costs("one")
    assert hooks.costs("whole").endswith("| side | Whole | none |  |  | 50 |  | 0.9 | 0.1 |  |  |")
    assert not hooks.costs("other")


FACTS = {  # of plugged.STARTS, of a weight (24, 18) at rank 4
    "square": {"parts": "A (4, 18), B (24, 4), core (4, 4)", "trains": "core"},
    "banded": {"parts": "A (18, 18), B (24, 18), core (18, 18)", "trains": "core; 52 of the core's 324 entries"},
    "held": {"parts": "A (4, 18), B (24, 4)", "trains": "B"},
    "moving": {"trains": "A, B", "the start is not W": "W gets its first triples once more."},
}


def test_facts_are_those_of_the_start_that_is_made(tmp_path):
    with plugged(tmp_path, {name: text(name) for name in FACTS}):
        for name, wanted in FACTS.items():
            found = described.facts(name)
            assert found.keys() >= wanted.keys(), name
            assert all(found[about].startswith(said) for about, said in wanted.items()), found


def test_hooks_are_those_that_a_file_fills(hooks):
    """By the names in its class's own lines."""
    for name in methods.names():
        training = methods.load(name).TRAINING
        own = {key for one in training.__mro__[:-2] for key in vars(one) if not key.startswith("_")}
        assert set(described.hooks(methods.load(name))) == own


@pytest.mark.parametrize("name", methods.names())
def test_the_command_says_the_facts_of_one(name, capsys):
    pissa("methods", name)
    said = capsys.readouterr().out
    assert said.startswith(methods.load(name).__doc__.strip())
    assert all(f"{about}: {text}\n" in said for about, text in described.facts(name).items())


def test_markdown_in_words_is_taken_for_words(hooks):
    assert hooks.prose("A *b* [c](d) |x| < `e_f*`") == r"A \*b\* \[c\](d) &#124;x&#124; &lt; `e_f*`"
