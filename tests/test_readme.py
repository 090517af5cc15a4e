"""The README is short, its lists are what there is, and its numbers are those of the tables that it links."""

import csv
import re

from pissa_repro import exhibits, methods, tasks
from pissa_repro.plan.config import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
REPRODUCTION = ROOT / "docs/reproduction"


def rows(path: str) -> list[dict[str, str]]:
    with open(REPRODUCTION / path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def listed(start: str, end: str) -> str:
    """What is between two texts, in one line."""
    (found,) = re.findall(rf"{start}(.*?){end}", " ".join(README.split()))
    return found


def test_it_is_short():
    assert len(README.split()) <= 800


def test_it_lists_every_method():
    links = [f"[{methods.load(name).DISPLAY}](pissa_repro/methods/{name}.py)" for name in methods.names()]
    assert listed("- Methods: ", r"\. On") == ", ".join(links)


def test_it_lists_every_task():
    assert listed("- Tasks: ", r" \(\[") == ", ".join(tasks.names())


def test_it_lists_what_the_paper_numbers():
    of_paper = {exhibits.PLUGINS.load(name).PAPER for name in exhibits.PLUGINS.names()} - {None}
    tables, figures = (
        part.split(", ") for part in listed("- The paper's tables ", ", and others").split(" and figures ")
    )
    assert {f"Table {one}" for one in tables} | {f"Figure {one}" for one in figures} == of_paper


def test_its_scores_are_those_of_the_tables():
    scores = {row["method"]: row for row in rows("embedded/gsm8k_table.csv")}
    said = re.findall(r"(\w+)(?: answers)? (\d+\.\d\d ± \d+\.\d\d) %", README)
    assert len(said) == 2
    for name, score in said:
        assert score == f"{float(scores[name]['score_mean']):.2f} ± {float(scores[name]['score_std']):.2f}"
    (best,) = [row for row in rows("rates/two_rates.csv") if row["method"] == said[0][0]]
    difference, low, high = (f"{float(best[f'best_{key}']):+.2f}" for key in ("difference", "low", "high"))
    assert re.search(rf"{re.escape(difference)}\s+points \[{re.escape(low)}, {re.escape(high)}\]", README)
