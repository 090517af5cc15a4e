"""The report page for those who do not see it or use no mouse: axe-core's rules, contrast, and a walk by keyboard."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from reported import NF4, Made, first_items, methods, opened

from pissa_repro.report.page.write import write

VIEWS = [(width, scheme) for width in (1400, 390) for scheme in ("light", "dark")]
FLAT = """
*:not(.skip) { position: static !important; }
.wide, .runs, .inner { overflow: visible !important; max-height: none !important; max-width: none !important; }
"""  # axe says nothing of the contrast of what may overlap
SEEN = """() => {
  const one = document.activeElement, box = one.getBoundingClientRect(), style = getComputedStyle(one);
  const at = document.elementFromPoint(box.x + Math.min(box.width, 20) / 2, box.y + Math.min(box.height, 20) / 2);
  const ringed = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  return one !== document.body && ringed && Boolean(at) && (one.contains(at) || at.contains(one) || at.control === one);
}"""  # whether what has the focus has a ring and lies in sight, under nothing
FOCUS = "document.activeElement"


STILL = """() => {
  const size = document.documentElement.getBoundingClientRect(), now = `${size.width} ${size.height}`;
  window.same = now === window.before ? window.same + 1 : 0;
  window.before = now;
  return window.same >= 5;
}"""  # whether the page has kept its size for half a second: its charts are drawn
CUT = """target => {
  const box = document.querySelector(target).getBoundingClientRect();
  return box.left < innerWidth && innerWidth < box.right;
}"""  # whether the edge of the view goes through an element: axe sees half of it


def asked(tab, wider: float) -> tuple[list[str], set[str]]:
    """What axe-core finds, the least of it too, and texts of which it cannot say the contrast; charts it cannot see.

    wider: pixels by which letters stand further apart.
    """
    tab.add_style_tag(content=f"{FLAT} body {{ letter-spacing: {wider}px; }}")
    tab.wait_for_function(STILL, polling=100)
    told = Axe().run(tab, options={"resultTypes": ["violations", "incomplete"]}).response
    found = [(one["impact"], one["id"], one["nodes"][0]["html"]) for one in told["violations"]]
    nodes = [node for one in told["incomplete"] for node in one["nodes"] if not node["html"].startswith("<text")]
    unsaid = {node["target"][0] for node in nodes if not tab.evaluate(CUT, node["target"][0])}
    return [f"{impact} {rule}: {html[:200]}" for impact, rule, html in found], unsaid


def breaches(tab) -> list[str]:
    """What axe-core finds, and what it can never say.

    An element whose edge falls on one of axe's own grid is to axe under another: at one width of letters, not at the
    next.
    """
    found, unsaid = asked(tab, 0)
    for wider in (0.8, 1.6):
        unsaid = unsaid and unsaid & asked(tab, wider)[1]
    return found + sorted(unsaid)


@pytest.mark.parametrize("size", ["14px", "15.3px"])  # other fonts are as wide
@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_axe_finds_nothing(browser, page, width, scheme, size):
    with opened(browser, page, viewport={"width": width, "height": 900}, color_scheme=scheme) as tab:
        first_items(tab, "PiSSA")
        tab.wait_for_selector(".item")
        tab.locator("#tools summary").click()
        tab.add_style_tag(content=f"body {{ font-size: {size} !important; }}")
        tab.locator("td.detail summary").first.click()
        assert tab.locator(".item").count() == 30 and not breaches(tab)


@pytest.fixture(scope="module", params=["empty", "quantized"])
def other(request, tmp_path_factory, made):
    """Pages that have other parts: without results, and with errors of quantized bases."""
    folder = tmp_path_factory.mktemp("other")
    results, sweep = folder / "results", made.sweep
    if request.param == "empty":
        results.mkdir()
    else:
        sweep = Made(folder, **NF4).sweep
    write(sweep, results, folder / "page.html")
    return folder / "page.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_what_is_empty_or_quantized(browser, other, scheme):
    with opened(browser, other, charts=False, viewport={"width": 390, "height": 900}, color_scheme=scheme) as tab:
        tab.wait_for_function("document.querySelector('#scatter-note').innerText")
        tab.locator("tr.row > th button").first.click()
        assert not breaches(tab)


def tab_to(tab, wanted: str, key: str = "Tab") -> None:
    """Press Tab until an element has the focus that fits; at each stop the focus is in sight."""
    for _ in range(80):
        tab.keyboard.press(key)
        assert tab.evaluate(SEEN), tab.evaluate(f"{FOCUS}.outerHTML")
        if tab.evaluate(f"{FOCUS}.matches({wanted!r})"):
            return
    raise AssertionError(f"no stop at {wanted}")


@pytest.mark.parametrize("width", [1400, 390])
def test_a_walk_by_keyboard_from_the_top_to_an_item_and_back(browser, page, width):
    with opened(browser, page, viewport={"width": width, "height": 900}) as tab:
        tab_to(tab, "a.skip")
        tab_to(tab, "select[name=method]")
        tab.keyboard.press("End")
        assert methods(tab) == ["PiSSA", "PiSSA"] and tab.evaluate(f"{FOCUS}.name") == "method"
        tab_to(tab, "thead button[data-keep='sort rank']")
        for key, order in (("Enter", "descending"), ("Space", "ascending")):
            tab.keyboard.press(key)
            assert tab.evaluate(f"{FOCUS}.closest('th').ariaSort") == order and tab.evaluate(SEEN)
        tab_to(tab, "tr.row > th button")
        tab.keyboard.press("Enter")
        assert tab.evaluate(f"{FOCUS}.ariaExpanded") == "true" and tab.evaluate(SEEN)
        tab_to(tab, ".items-button")
        tab.keyboard.press("Space")
        tab.wait_for_selector(".item")
        assert tab.evaluate(f"{FOCUS}.id") == "items-head"
        tab_to(tab, "#items-bar [name=find]")
        tab.keyboard.type("q39")
        tab.wait_for_function("document.querySelectorAll('.item').length === 1")
        tab_to(tab, "#items-close")
        tab.keyboard.press("Enter")
        assert tab.evaluate(f"{FOCUS}.matches('.items-button')") and tab.locator(".item").count() == 0
        tab_to(tab, "tr.row > th button", key="Shift+Tab")
        tab.keyboard.press("Enter")
        assert tab.evaluate(f"{FOCUS}.ariaExpanded") == "false" and tab.evaluate(SEEN)
        assert tab.locator("td.detail").count() == 0


def test_every_field_has_a_name(tab):
    first_items(tab)
    every = "[...document.querySelectorAll('select, input, button, summary')]"
    unnamed = f"{every}.filter(one => !one.labels?.length && !one.textContent.trim() && !one.ariaLabel)"
    assert tab.evaluate(f"{unnamed}.map(one => one.outerHTML)") == []
