"""The numbers of pages on what came out are those of the tables that are kept beside them."""

import csv
import re

from pissa_repro.plan.config import ROOT

RATES = ROOT / "docs/reproduction/rates"
KEYS = [f"{side}_{key}" for side in ("common", "best") for key in ("difference", "low", "high")]
KEYS += ["change", "change_low", "change_high"]


def test_every_difference_of_the_rates_page_is_one_of_the_table():
    with open(RATES / "two_rates.csv", newline="", encoding="utf-8") as file:
        known = {f"{float(row[key]):+.2f}" for row in csv.DictReader(file) for key in KEYS if row[key]}
    said = set(re.findall(r"[+-]\d+\.\d\d", (RATES / "index.md").read_text(encoding="utf-8")))
    assert len(said) > 20 and said <= known


def test_every_score_of_the_paper_page_is_in_a_table_or_a_figure_of_that_run():
    folder = ROOT / "docs/reproduction/paper"
    tables = (folder / "tables.md").read_text(encoding="utf-8")
    lines = [line for line in (folder / "index.md").read_text(encoding="utf-8").split("\n- ") if "Table" in line[:9]]
    said = {number for line in lines for number in re.findall(r"\d+\.\d\d", line)}
    assert len(said) > 15 and not {number for number in said if number not in tables}


def test_every_number_of_the_smollm2_page_is_in_its_tables():
    folder = ROOT / "docs/reproduction/smollm2"
    tables = (folder / "tables.md").read_text(encoding="utf-8")
    text = (folder / "index.md").read_text(encoding="utf-8")
    said = set(re.findall(r"[+-]?\d+\.\d\d+", text))
    assert len(said) > 20 and not {number for number in said if number not in tables}
