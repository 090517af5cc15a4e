"""The measured numbers of pages are those of the records of benchmarks, and of the tables beside the pages."""

import csv
import json
import re
from itertools import product
from statistics import median

import pytest

from pissa_repro.plan.config import ROOT

DOCS, RECORDS = ROOT / "docs", ROOT / "results/benchmarks"
NONE = "\N{EN DASH}"  # in tables of pages
CPU, CARD, SECOND = "b85397b", "106dfb4", "2fb92c8"  # commits of the records
SMALL, MIDDLE, LARGE = [2048, 2048], [4096, 4096], [11008, 4096]
FASTER = [  # docs/guides/studies.md: the row, theirs, ours
    ("PiSSA's start: `torch.linalg.svd`", "linalg.svd", "pissa-fast"),
    ("PiSSA's start: `torch.svd_lowrank(niter=16)`", "svd_lowrank-16", "pissa-fast"),
    ("exact start: `torch.linalg.svd`", "linalg.svd", "pissa-exact"),
    ("QPiSSA, T = 5: five full SVDs", "qpissa-5-full-svd", "qpissa-5-fast"),
    ("nuclear norm: `torch.linalg.svdvals`", "nuclear-svdvals", "nuclear-ours"),
    ("nf4 round trip: bitsandbytes, CPU", "nf4-bitsandbytes", "nf4-ours"),
]
ON_CARDS = {  # docs/reproduction/first_card.md, in both tables where they have the row
    "PiSSA, `fast`": "pissa-fast", "`svd_lowrank(niter=16)`": "svd_lowrank-16",
    "PEFT `pissa_niter_16`": "peft-pissa_niter_16", "PiSSA, `exact`": "pissa-exact", "PEFT `pissa`": "peft-pissa",
    "QPiSSA, T = 5": "qpissa-5-fast", "the same by five full SVDs": "qpissa-5-full-svd",
    "LoftQ, T = 5": "loftq-5-fast", "PEFT `loftq`, T = 5": "peft-loftq-5", "nuclear norm": "nuclear-ours",
    "`torch.linalg.svdvals`": "nuclear-svdvals", "nf4 round trip": "nf4-ours",
    "the same by bitsandbytes": "nf4-bitsandbytes",
}  # fmt: skip
TRAINED = {"full FT": "full-none-r0", "LoRA": "lora-none-r32", "PiSSA": "pissa-none-r32",
           "QPiSSA (T = 5)": "pissa-nf4-r32"}  # fmt: skip


def records(name: str) -> list[dict]:
    return [json.loads(line) for line in (RECORDS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() if line]


def rows(page: str, first: str) -> list[list[str]]:
    """The other cells of every row of a page's tables that begins with this cell."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    found = [row[1:] for row in cells if row[0] == first]
    assert found, (page, first)
    return found


def number(text: str) -> float:
    return float(re.match(r"[-+\d.,e]+", text)[0].replace(",", ""))


def started(commit: str, name: str, shape: list[int]) -> dict:
    (line,) = [
        line
        for line in records("init")
        if line["git"]["commit"].startswith(commit) and (line["name"], line["shape"]) == (name, shape)
    ]
    return line


@pytest.mark.parametrize(("row", "theirs", "ours"), FASTER)
def test_how_much_faster_a_start_is(row, theirs, ours):
    (cells,) = rows("guides/studies.md", row)
    for cell, shape in zip(cells, (SMALL, MIDDLE), strict=False):
        pairs = product(started(CPU, theirs, shape)["seconds"], started(CPU, ours, shape)["seconds"])
        assert number(cell) == pytest.approx(median(slow / fast for slow, fast in pairs), rel=0.02)


@pytest.mark.parametrize(("row", "name"), ON_CARDS.items())
def test_the_seconds_and_reductions_of_starts_on_cards(row, name):
    runs = ((CARD, LARGE), (SECOND, MIDDLE))
    for cells, (commit, shape) in zip(rows("reproduction/first_card.md", row), runs, strict=False):
        line = started(commit, name, shape)
        assert number(cells[0]) == pytest.approx(line["seconds_median"], rel=0.03)
        if said := re.search(r"([\d.]+) %", cells[2]):
            assert float(said[1]) == pytest.approx(line["error_reduction"], abs=0.006)


@pytest.mark.parametrize(("row", "cell"), TRAINED.items())
def test_the_trainings_on_a_card(row, cell):
    line = next(one for one in records("card") if one.get("cell") == f"{cell}-lr0.0005-s0")
    ((_, first, final, moved, memory, seconds),) = rows("reproduction/first_card.md", row)
    assert (first, final) == (f"{line['losses'][0]:.4f}", f"{line['final_loss']:.4f}")
    difference = line["start_up"]["logits_difference"]
    assert moved == (NONE if difference is None else f"{difference:.3f}")
    assert (memory, seconds) == (f"{line['gpu_memory_bytes'] / 2**30:.1f}", f"{line['train_seconds']:.0f}")


@pytest.mark.parametrize(
    ("row", "name"),
    [("lm-eval's HF default (one prompt at a time)", "lm-eval default"), ("`hf`, 64 prompts a batch", "hf"),
     ("`vllm` on CPU", "vllm")],
)  # fmt: skip
def test_how_fast_answers_are_generated(row, name):
    (cells,) = rows("guides/scoring.md", row)
    lines = [line for line in records("evaluate") if (line["part"], line["name"]) == ("speed", name)]
    for cell, line in zip(cells, lines, strict=True):
        rate, *times = (number(part) for part in cell.split("("))
        assert rate == round(line["rate_median"])
        assert times == [pytest.approx(line["times_default_median"], rel=0.01)] * len(times)


def test_what_five_more_cells_cost_an_engine():
    text = " ".join((DOCS / "guides/scoring.md").read_text(encoding="utf-8").split())
    (line,) = [line for line in records("evaluate") if (line["part"], line["name"]) == ("cells", "vllm")]
    said = re.search(r"six cells takes ([\d.]+) times .*?\(([\d.]+) to ([\d.]+)", text).groups()
    assert said == tuple(f"{line[f'ratio_{key}']:.2f}" for key in ("median", "min", "max"))


def test_how_much_faster_sorted_rows_are_trained():
    text = " ".join((DOCS / "project/decisions/training.md").read_text(encoding="utf-8").split())
    for line in records("train"):
        if line["contender"] == "plain Trainer":
            said = "{median:.2f} [{low:.2f}, {high:.2f}] times".format(**line["ours"])
            assert said in text and f"{line['padding']:.1%}".replace("%", " %") in text
            assert line["loss_difference"] < {"embedded": 3.5e-07, "smollm2": 7.2e-06}[line["model"]]


def test_how_near_the_forms_of_a_cell_are():
    def shown(value) -> str:
        return NONE if value is None else "refused" if isinstance(value, str) else f"{value:.0e}" if value else "0"

    for line in records("loaded"):
        by_card, naive = line["by_card"], line["naive"]
        values = [by_card.get(form) for form in ("trained/", "merged", "residual")]
        values += [naive["AutoPeftModelForCausalLM"], naive["AutoModelForCausalLM"]]
        values += [line["vllm_lora"], line["vllm_whole"]]
        assert list(map(shown, values)) in rows("guides/use_a_cell.md", line["name"])


def test_every_number_of_the_page_of_all_methods_is_in_a_table():
    """Scores, differences and what is forgotten with two digits; losses of the search of rates with three."""
    known = set()
    for place in ("baselines/baselines", "baselines/rates", "baselines/rates_high", "embedded/gsm8k_table"):
        with open(DOCS / f"reproduction/{place}.csv", newline="", encoding="utf-8") as file:
            values = [value for row in csv.DictReader(file) for value in row.values()]
        numbers = [float(value) for value in values if re.fullmatch(r"-?\d+\.\d+(e[-+]\d+)?", value)]
        known |= {f"{abs(value):.{digits}f}" for value in numbers for digits in (2, 3)}
    said = set(re.findall(r"\d+\.\d\d\d?\b", (DOCS / "reproduction/baselines/index.md").read_text(encoding="utf-8")))
    assert len(said) > 25 and said <= known, said - known
