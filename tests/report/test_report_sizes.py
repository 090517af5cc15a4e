"""The report page of a sweep that is large, and where the results are not to be written to."""

import os

import pytest
from reported import Made, methods, opened
from test_report_access import tab_to

from pissa_repro.report.page.write import write

MANY = {f"m{n:02}": {"init": "lora", "lora": {"lora_alpha": n + 1}} for n in range(40)}

GIVEN = "all => all.map(one => one.getAttribute('{}'))"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The page of a sweep of 40 methods."""
    folder = tmp_path_factory.mktemp("many")
    cells = [{"method": name, "quant": "none"} for name in MANY]
    made = Made(folder, seeds=[0], ranks=[4, 16], cells=cells, more={"methods": MANY})
    write(made.sweep, made.results, folder / "page.html")
    return folder / "page.html"


def test_forty_methods_share_no_colour(browser, many):
    with opened(browser, many) as tab:
        assert len(set(methods(tab))) == 40
        drawn = tab.locator("#scatter .mark-symbol.role-mark path").evaluate_all(GIVEN.format("fill"))
        assert len(drawn) == 80 and len(set(drawn)) == 13 and max(map(drawn.count, set(drawn))) == 56
        assert "12 of 40 methods have a colour" in tab.inner_text("#scatter-note")
        assert "The first 12 of 80 curves" in tab.inner_text("#curves-note")
        legend = tab.locator("#scatter .role-legend-label text").all_text_contents()
        assert len(legend) == 13 and legend[-1] == "other methods"
        colours = (
            "[...document.querySelectorAll('#curves .role-legend-symbol path')].map(one => one.getAttribute('stroke'))"
        )
        assert len(set(tab.evaluate(colours))) == 12


def test_the_focus_is_in_sight_on_the_way_back_through_a_long_table(browser, many):
    with opened(browser, many, viewport={"width": 390, "height": 700}) as tab:
        tab.locator("tr.row > th button").nth(45).focus()
        tab_to(tab, "tr.row:nth-child(20) > th button", key="Shift+Tab")
        tab.locator("tr.row > th button").first.focus()
        tab_to(tab, "#table", key="Shift+Tab")


def test_results_that_are_not_to_be_written_to(tmp_path):
    made = Made(tmp_path, seeds=[0], ranks=[4])
    folders = [made.results, *(path for path in made.results.rglob("*") if path.is_dir())]
    before = sorted(made.results.rglob("*"))
    for folder in folders:
        folder.chmod(0o555)
    try:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        write(made.sweep, made.results, elsewhere / "page.html")
        assert f"{os.path.relpath(made.results, elsewhere)}/" in (elsewhere / "page.html").read_text(encoding="utf-8")
        assert sorted(made.results.rglob("*")) == before
    finally:
        for folder in folders:
            folder.chmod(0o755)
