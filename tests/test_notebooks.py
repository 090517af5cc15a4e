"""The notebooks of docs/notebooks: each runs, gives the numbers of the tables, holds no output, and is a page."""

import json
import re
from statistics import fmean

import nbclient
import nbformat
import pytest
from nbformat.v4 import new_code_cell
from recorded import ITEMS, record, right

from pissa_repro.plan.cells import by_seed
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
TABLE8 = (ROOT / "docs/reproduction/embedded/table8.md").read_text(encoding="utf-8")


def notebook(name):
    return nbformat.read(ROOT / f"docs/notebooks/{name}.ipynb", as_version=4)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a notebook as if it lay in docs/notebooks of the test's folder.

    Gives what it prints, how many figures it shows, and what an expression is at its end, through JSON.
    """
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    place = tmp_path / "docs/notebooks"
    place.mkdir(parents=True)

    def run(name, asked):
        cells = notebook(name)
        cells.cells.append(new_code_cell(f"import json\nprint(json.dumps({asked}))"))
        limits = {"timeout": 600, "startup_timeout": 600}  # seconds a cell, on a machine that is busy
        resources = {"metadata": {"path": str(place)}}
        nbclient.NotebookClient(cells, kernel_name="python3", resources=resources, **limits).execute()
        outputs = [output for cell in cells.cells if cell.cell_type == "code" for output in cell.outputs]
        streams = [output for output in outputs if output.output_type == "stream"]
        assert {output.name for output in streams} == {"stdout"}, "nothing is warned of"
        figures = sum("image/png" in output.get("data", {}) for output in outputs)
        *said, last = (output.text for output in streams)
        return "".join(said), figures, json.loads(last)

    return run


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_and_holds_no_output(path):
    cells = notebook(path.stem).cells
    assert 8 <= len(cells) <= 12
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count") or cell.metadata]
    kinds = [cell.cell_type for cell in cells]
    assert kinds == ["markdown", "code"] * (len(cells) // 2) + ["markdown"], "a sentence before each step"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_a_page_with_all_its_cells(hooks, path):
    page, cells = hooks.notebook(path), notebook(path.stem).cells
    assert path in hooks.notebooks()
    assert page.startswith(cells[0].source) and f"({path.name})" in page
    assert re.findall(r"^```python\n(.*?)\n```$", page, flags=re.MULTILINE | re.DOTALL) == [
        cell.source for cell in cells if cell.cell_type == "code"
    ]
    assert all(cell.source in page for cell in cells)


def reductions(display, rank, modules):
    """Of the table in docs: the mean over these types, in percent, after five alternations."""
    head = next(line for line in TABLE8.splitlines() if line.startswith("| source")).split(" | ")
    (row,) = re.findall(rf"^\| measured \| .* \| {display} \| {rank} \| 5 \| .*$", TABLE8, flags=re.MULTILINE)
    return sum(float(row.split(" | ")[head.index(module)]) for module in modules) / len(modules)


def test_the_errors_are_those_of_table_8(run):
    asked = "[reductions, RANKS, MODULES, [gram.values(weight).tolist(), gram.values(residual).tolist(), RANK]]"
    said, figures, (found, ranks, modules, (values, rest, rank)) = run("spectrum", asked)
    assert figures == 3 and all(f"{value:6.2f} %" in said for some in found.values() for value in some)
    assert found["lora"] == [0.0] * len(ranks)
    for method, display in (("loftq", "LoftQ"), ("pissa", "QPiSSA")):
        assert found[method] == pytest.approx([reductions(display, r, modules) for r in ranks], abs=0.02)
    assert rest[: -rank or None] == pytest.approx(values[rank:], abs=1e-5)


def test_the_differences_are_those_of_the_records(run, tmp_path):
    """Of a sweep that is not done too: the last setting lacks a seed, and is compared with nothing."""
    sweep = Sweep(load(ROOT / "config/config.yaml"))
    record(sweep, tmp_path / "results", skip=[list(sweep.cells)[-1]])
    shares = {
        some[0].name: [right(cell, "gsm-mini") / ITEMS for cell in some] for some in by_seed(sweep.cells.values())
    }
    said, figures, gaps = run(
        "results", "[[a.first.name, b.first.name, gap(a, b).mean, gap(a, b).low] for a, b in pairs]"
    )
    assert figures == 2 and "gsm-mini: 6 settings, 1 cells without a score" in said
    assert len(gaps) == 3 and said.count(" minus ") == 3
    for a, b, mean, low in gaps:
        assert mean == pytest.approx(fmean(shares[a]) - fmean(shares[b]))
        assert f"{100 * mean:+.2f} [{100 * low:+.2f}, " in said
