"""The items of a run on the report page, from the files beside it."""

import json
import re
import shutil

from recorded import ITEMS, right
from reported import HOSTILE, Made, first_items, opened

from pissa_repro.report.page import items
from pissa_repro.report.page.items import MOST, embedded, write_items
from pissa_repro.report.page.write import write
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_lines, write_lines


def test_the_items_of_a_run_are_searched_and_set_beside_the_reference(tab, made):
    first_items(tab, "PiSSA")
    tab.wait_for_selector(".item")
    assert tab.evaluate("document.activeElement.id") == "items-head"
    cell = next(cell for cell in made.sweep.cells.values() if cell.method == "pissa" and cell.rank == 4)
    base = next(cell for cell in made.sweep.cells.values() if cell.method == "lora" and cell.rank == 4)
    here, there = right(cell, "gsm-mini"), right(base, "gsm-mini")
    told = tab.inner_text("#items-note")
    assert f"40 of 40 items. Against the reference (LoRA, r4), same seed: {max(0, here - there)} higher" in told
    tab.select_option("select[name=show]", "wrong")
    tab.wait_for_function(f"document.querySelectorAll('.item').length === {min(30, ITEMS - here)}")
    tab.select_option("select[name=show]", "flips")
    tab.wait_for_function(f"document.querySelectorAll('.item').length === {abs(here - there)}")
    tab.select_option("select[name=show]", "")
    tab.fill("input[name=find]", "q39")
    tab.wait_for_function("document.querySelectorAll('.item').length === 1")
    tab.wait_for_function("location.hash.includes('find=q39')")
    assert "Item 39: wrong" in tab.inner_text(".item")


def test_items_that_are_not_beside_the_page_are_missed_in_words(browser, page, tmp_path):
    shutil.copy(page, tmp_path)
    with opened(browser, tmp_path / page.name, said=3) as tab:  # the browser names the files
        first_items(tab)
        tab.wait_for_function("document.querySelector('#items-note').innerText.includes('report_items is not beside')")


def test_long_runs_are_read_file_by_file(tmp_path, browser, made, monkeypatch):
    """What is shown and searched is read as far as it must be, said, and given free again."""
    monkeypatch.setattr(items, "MOST", 100)
    write(made.sweep, made.results, tmp_path / "page.html")
    assert len(list((tmp_path / "page_items").iterdir())) > 50
    with opened(browser, tmp_path / "page.html") as tab:
        asked = []
        tab.on("request", lambda request: asked.append(request.url))
        first_items(tab, "PiSSA")
        told = "document.querySelector('#items-note').innerText.includes('{}')"
        tab.wait_for_function("document.querySelectorAll('.item').length === 30")
        found = re.search(
            r"(\d+) in the first (\d+) of 40 items, which are all that was read", tab.inner_text("#items-note")
        )
        assert found[1] == found[2] and 30 <= int(found[1]) < 40
        assert 0 < len(asked) < 30 and tab.locator("script[src]").count() == 0
        counts = tab.inner_text("#items-note").partition("Against")[2]
        tab.get_by_role("button", name="Read on").click()
        tab.wait_for_function(told.format("40 of 40 items."))
        assert counts and tab.inner_text("#items-note").partition("Against")[2] == counts, "are of all from the start"
        ids = [text.split(":")[0] for text in tab.locator(".item strong").all_inner_texts()]
        assert ids == [f"Item {n}" for n in range(40)] and not tab.locator("#items-more").is_visible()
        tab.fill("input[name=find]", "q3")
        tab.wait_for_function(told.format("11 of 40 items."))
        tab.fill("input[name=find]", "no such word")
        tab.wait_for_function(told.format(" 0 of 40 items."))
        assert tab.locator(".item").count() == 0


def test_texts_of_models_stay_texts(tmp_path, browser):
    made = Made(tmp_path, seeds=[0], ranks=[4])
    for name in made.sweep.cells:
        path = paths.cell(name, made.results).samples("gsm-mini")
        rows = read_lines(path)
        rows[1] |= {"generated": f"{4000 * 'x'} needle"}
        rows[0] |= {"generated": f"{HOSTILE} The answer is: 1,2 ", "prompt": f"q0 {HOSTILE}", "target": HOSTILE}
        write_lines(path, rows)
    write(made.sweep, made.results, tmp_path / "page.html")
    with opened(browser, tmp_path / "page.html") as tab:
        first_items(tab)
        tab.wait_for_selector(".item")
        item = tab.locator(".item").first
        assert item.inner_text().count("</script><script>") == 4 and item.locator("img, script").count() == 0
        assert tab.title().startswith("pissa-repro") and item.locator("[dir=auto]").count() == 4
        long = tab.locator(".item").nth(1)
        assert "needle" not in long.inner_text()
        long.get_by_role("button", name="All 4,007 characters").first.click()
        assert "needle" in long.inner_text()
        tab.fill("input[name=find]", "needle")
        tab.wait_for_function("document.querySelectorAll('.item').length === 1")
        assert "needle" in tab.inner_text(".item"), "what is searched is shown"


def test_long_answers_are_parted(tmp_path, made):
    """As 10,000 items of 20,000 characters are: files of a few MB each, none of them the page."""
    rows = [{"id": n, "prompt": f"q{n}", "target": "", "generated": "x" * 20_000, "paper": 1.0} for n in range(250)]
    name = next(iter(made.sweep.cells))
    path = paths.cell(name, tmp_path).samples("gsm-mini")
    write_lines(path, rows)
    runs = [{"state": "done", "record": str(paths.cell(name).score("gsm-mini"))}, {"state": "missing"}]
    asked = write_items(made.sweep, runs, tmp_path, tmp_path, "0")
    sizes = [(tmp_path / f"{number}.js").stat().st_size for number in runs[0]["items"]]
    assert len(sizes) == 3 and max(sizes) < 1.1 * MOST and len(asked["gsm-mini"]) == 1 and "items" not in runs[1]


def test_no_text_ends_the_element_that_holds_it():
    text = embedded({"a": f"{HOSTILE}<!-- \u2028 &amp;"})
    assert not {"<", ">", "&", "\u2028"} & set(text) and json.loads(text)["a"].startswith(HOSTILE)
