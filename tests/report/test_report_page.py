"""The report page in a browser: filter, sort, unfold, plot; by keyboard and by address; and nothing leaves the file."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from commands import pissa
from recorded import right
from reported import NF4, Made, methods, opened
from stage import says

from pissa_repro.report.page.write import write


def test_filters_and_sorting_are_in_the_address_and_come_back_from_it(tab, browser, page):
    assert len(methods(tab)) == 5
    tab.select_option("select[name=method]", "PiSSA")
    assert methods(tab) == ["PiSSA", "PiSSA"] and tab.inner_text("#count").startswith("2 of 5 settings")
    tab.get_by_role("button", name="Rank").click()
    assert tab.locator("th[aria-sort=descending]").inner_text().startswith("Rank")
    tab.get_by_role("button", name="Rank").click()
    ranks = tab.locator("tr.row > td:nth-child(4)").all_inner_texts()
    assert ranks == sorted(ranks, key=int) and tab.locator("th[aria-sort=ascending]").count() == 1
    tab.locator("tr.row > th button").first.click()
    tab.select_option("select[name=y]", "final_loss_mean")
    tab.wait_for_function("location.hash.includes('y=final_loss_mean')")
    with opened(browser, page, tab.url.partition("#")[2]) as other:
        for look in ("document.querySelector('#table').innerText", "document.querySelector('[name=y]').value"):
            assert other.evaluate(look) == tab.evaluate(look)
        assert other.locator("td.detail").count() == 1
        other.get_by_role("button", name="Show all").click()
        other.wait_for_function("document.querySelectorAll('tr.row').length === 5")


def test_the_search_finds_and_says_when_nothing_is_left(tab):
    tab.fill("input[name=q]", "full")
    assert methods(tab) == ["full FT"]
    tab.fill("input[name=q]", "no such thing")
    assert methods(tab) == [] and tab.inner_text("#count").startswith("0 of 5")
    tab.wait_for_function("document.querySelector('#scatter-note').innerText.startsWith('No row')")


def test_what_failed_is_counted_and_its_log_is_text(tab):
    assert "9 done, 1 failed" in tab.inner_text("#states")
    tab.select_option("select[name=state]", "1 failed, 1 done")
    tab.locator("tr.row > th button").click()
    assert "error: </script><script>" in tab.inner_text("td.detail") and "אבג" in tab.inner_text("td.detail")
    assert tab.title().startswith("pissa-repro") and tab.locator("main img").count() == 0


def test_a_run_has_its_command_and_its_record(tab, page):
    tab.locator("tr.row > th button").first.click()
    tab.locator("td.detail summary").first.click()
    assert tab.locator("td.detail details code").first.inner_text().startswith("snakemake --cores all results/cells/")
    place = "link => decodeURI(new URL(link.href).pathname)"
    record = tab.locator("td.detail a", has_text="record").first.evaluate(place)
    assert json.loads(Path(record).read_text(encoding="utf-8"))["metrics"]
    made = [Path(one.evaluate(place)) for one in tab.locator("#files a").all()]
    assert made == [page.parent / "results" / "gsm8k_table.csv"], "the tables that are there, as links"


def test_hovering_shows_numbers(tab):
    tab.locator("#scatter svg .mark-symbol path").first.hover(force=True)
    tab.wait_for_selector("#vg-tooltip-element.visible")
    assert "Setting" in tab.inner_text("#vg-tooltip-element")


def test_a_method_keeps_its_colour_in_every_chart(tab):
    point = "[...document.querySelectorAll('#scatter .mark-symbol path')].at(-1).getAttribute('fill')"
    line = "document.querySelector('#curves .role-legend-symbol path').getAttribute('stroke')"
    before = tab.evaluate(point)  # the last row's
    tab.select_option("select[name=method]", "PiSSA")
    tab.select_option("select[name=rank]", "16")
    tab.wait_for_function("document.querySelectorAll('#curves .role-legend-symbol path').length === 1")
    assert before == tab.evaluate(point) == tab.evaluate(line)


def test_the_best_trade_offs_are_named_and_the_axes_are_any(tab, made):
    """All cells take as long, so that the best score is the only best trade-off."""
    best = max(made.sweep.cells.values(), key=lambda cell: right(cell, "gsm-mini"))
    named = f"No other setting is better in both than these: {made.sweep.display(best)}"
    assert named in tab.inner_text("#scatter-note")
    tab.uncheck("input[name=front]")
    tab.wait_for_function("!document.querySelector('#scatter-note').innerText.includes('No other setting')")
    tab.select_option("select[name=x]", "trainable_parameters")
    tab.wait_for_function("document.querySelector('#scatter svg').textContent.includes('Trained parameters')")


def test_a_slider_goes_through_the_rates(tmp_path, browser):
    made = Made(tmp_path, seeds=[0], ranks=[4], learning_rates=[0.001, 0.003, 0.01])
    write(made.sweep, made.results, tmp_path / "page.html")
    with opened(browser, tmp_path / "page.html") as tab:
        tab.focus("input[name=slide]")
        for rate in ("0.001", "0.003"):
            tab.keyboard.press("ArrowRight")
            assert tab.input_value("select[name=learning_rate]") == rate and len(methods(tab)) == 3
        tab.wait_for_function("location.hash.includes('learning_rate=0.003')")


def saved(tab, kind: str, name: str) -> str:
    """The text that a button of the page downloads."""
    with tab.expect_download() as told:
        tab.get_by_role("button", name=f"{kind} of the {name}").click()
    assert told.value.suggested_filename == f"{name}.{ {'CSV': 'csv', 'Markdown': 'md', 'LaTeX': 'tex'}[kind] }"
    return Path(told.value.path()).read_text(encoding="utf-8")


def test_tables_and_data_of_charts_are_downloaded(tab, made):
    for kind in ("CSV", "Markdown", "LaTeX"):
        assert "PiSSA" in saved(tab, kind, "settings")
    runs = [*csv.DictReader(io.StringIO(saved(tab, "CSV", "runs")))]
    pissa = [run for run in runs if run["method"] == "PiSSA"]
    assert len(runs) == 10 and len(pissa) == 4
    for run in pissa:
        assert float(run["value"]) == pytest.approx(100 * right(made.sweep.cells[run["cell"]], "gsm-mini") / 40)
    tab.select_option("select[name=method]", "PiSSA")
    tab.wait_for_function("document.querySelector('#scatter-note').innerText.startsWith('2 settings')")
    points = [*csv.DictReader(io.StringIO(saved(tab, "CSV", "points")))]
    assert [point["setting"] for point in points] == ["PiSSA, r4", "PiSSA, r16"]
    curves = [*csv.DictReader(io.StringIO(saved(tab, "CSV", "curves")))]
    assert len(curves) == 2 * 24 and all(float(one["low"]) <= float(one["mean"]) for one in curves)
    assert saved(tab, "LaTeX", "curves").startswith("\\begin{tabular}{llllll}")


@pytest.mark.parametrize("width", [390, 1400])
def test_it_fits_and_is_dark_where_that_is_wanted(browser, page, width):
    with opened(browser, page, viewport={"width": width, "height": 800}, color_scheme="dark") as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 25)"


def test_print_fits_a_page_and_has_no_controls(browser, page):
    """A4 on its side, 277 mm at 96 dots per inch."""
    with opened(browser, page, viewport={"width": 1047, "height": 730}) as tab:
        tab.emulate_media(media="print")
        tab.wait_for_function("document.documentElement.scrollWidth <= 1047")
        assert not any(one.is_visible() for one in tab.locator("select, input, #items, .downloads button").all())
        assert tab.locator("tr.row").count() == 5 and tab.locator("#scatter svg.marks").is_visible()


@pytest.mark.parametrize("swept", [{"seeds": [0]}, {"cells": [{"method": "pissa", "quant": "none"}]}, NF4, None])
def test_a_small_or_an_empty_sweep_opens(tmp_path, browser, made, swept):
    results, sweep = tmp_path / "results", made.sweep
    if swept:
        sweep = Made(tmp_path, **swept).sweep
    else:
        results.mkdir()
    write(sweep, results, tmp_path / "page.html")
    with opened(browser, tmp_path / "page.html", charts=False) as tab:
        tab.wait_for_function("document.querySelector('#scatter-note').innerText")
        if swept == NF4:
            tab.wait_for_selector("#errors svg .mark-rect path")
        assert len(methods(tab)) and tab.locator("#heat").is_visible() == (swept == NF4)


def test_only_a_page_of_ours_is_written_over(tmp_path, made, page):
    words = ("report", "--configfile", made.config, "--results", made.results, "--out")
    mine = tmp_path / "mine.html"
    mine.write_text("<p>mine</p>", encoding="utf-8")
    says(lambda: pissa(*words, mine, "--again"), "exists already", str(mine))
    shutil.copy(page, tmp_path / "old.html")
    says(lambda: pissa(*words, tmp_path / "old.html"), "exists already")
    for _ in range(2):
        pissa(*words, tmp_path / "old.html", "--again")
    (tmp_path / "old_items/mine.txt").touch()
    says(lambda: pissa(*words, tmp_path / "old.html", "--again"), "old_items", "there already")
    says(lambda: pissa(*words, tmp_path / "none" / "new.html"), "no such folder")
    assert mine.read_text(encoding="utf-8") == "<p>mine</p>"
