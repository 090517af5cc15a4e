"""docs/guides/add_an_exhibit.md: its file is an exhibit as it stands, and its table names what the contract has."""

import importlib.util
import re
import sys

import pytest
from recorded import loss_of

from pissa_repro import exhibits
from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.plugins import members

GUIDE = (ROOT / "docs/guides/add_an_exhibit.md").read_text(encoding="utf-8")
NAME = "pissa_repro.exhibits.losses"


@pytest.fixture
def added(tmp_path, monkeypatch):
    """The guide's file, among the others."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)
    path = tmp_path / "losses.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(NAME, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, NAME, module)
    names = (*exhibits.PLUGINS.names(), "losses")
    monkeypatch.setattr(exhibits.PLUGINS, "names", lambda: names)
    yield
    exhibits.PLUGINS._loaded.pop("losses", None)


def test_the_example_is_listed_made_and_right(added, swept, recorded):
    one = exhibits.output(swept, "table", "extra/losses")
    assert str(one.target) in GUIDE and one.target in exhibits.targets(swept, "all")
    rows = one.exhibit.make(one.sweep, recorded).rows
    assert len(rows) == 6 and [row["final loss"] for row in rows] == sorted(row["final loss"] for row in rows)
    full = [loss_of(cell) for cell in one.sweep.cells.values() if cell.method == "full"]
    assert next(row for row in rows if row["method"] == "full FT")["final loss"] == pytest.approx(sum(full) / 3)


def test_the_page_says_every_name_of_the_contract():
    said = re.findall(r"^\| `(\w+)", GUIDE, flags=re.MULTILINE)
    assert sorted(said) == sorted(members(exhibits.Exhibit))
