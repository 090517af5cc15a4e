"""A folder of results made by hand, of a small sweep; every number in it is invented."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from recorded import record

from pissa_repro.plan.batches import Batches
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.jobs import jobs
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.page.write import beside
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import write_json

SWEPT = {
    "sweep": {
        "cells": [{"method": method, "quant": "none"} for method in ("full", "lora", "pissa")],
        "ranks": [4, 16], "seeds": [0, 1],
    }
}  # fmt: skip

NF4 = {"cells": [{"method": "pissa", "quant": "nf4"}], "ranks": [4], "seeds": [0]}  # one cell
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"> \u202eabc אבג"


class Made:
    """The sweep, its config file, and its folder of records.

    over: a shipped config below that file. more: other sections of the file.
    """

    def __init__(self, folder: Path, skip=(), over: str = "config.yaml", more=None, **swept):
        self.results, self.config = folder / "results", folder / "mine.yaml"
        self.config.write_text(yaml.safe_dump({"sweep": SWEPT["sweep"] | swept} | (more or {})), encoding="utf-8")
        self.sweep = Sweep(load(ROOT / "config/config.yaml", ROOT / "config" / over, self.config))
        self.results.mkdir()
        record(self.sweep, self.results, skip)
        for job in jobs(self.sweep, Batches(self.sweep)):
            if job.stage in ("admit", "init", "generate", "fetch"):
                self._mark(job)

    def _mark(self, job) -> None:
        """The record of a stage that the page takes no number from."""
        path, origin = paths.at(job.record, self.results), {"provenance": {"seconds": 1.0}}
        rows = dict(zip(job.data, job.data, strict=True))
        here = {"spec": job.spec(), "base": {"fingerprint": "f" * 64}, "data_sha256": rows, **origin}
        hashes = {"fingerprint": "f" * 64} if path.parent.name == "models" else {"sha256": job.name}
        write_json(path, here | hashes)


@contextmanager
def opened(browser, page: Path, address: str = "", charts: bool = True, said: int = 0, **view) -> Iterator:
    """A page in a browser; afterwards it must have asked for nothing but its items, and said nothing.

    address: what stands behind the "#". charts: whether to wait for them. said: how many lines the browser may say.
    view: as the browser's new_page wants it.
    """
    tab, faults = browser.new_page(**{"viewport": {"width": 1400, "height": 900}} | view), []
    tab.set_default_timeout(300_000)  # milliseconds: a machine may have other work
    own = (page.as_uri(), beside(page).as_uri() + "/", "data:", "blob:")

    def asked(request):
        if not request.url.startswith(own):
            faults.append(request.url)

    tab.on("console", lambda told: faults.append(told.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("request", asked)
    tab.goto(f"{page.as_uri()}#{address}")
    if charts:
        tab.wait_for_selector("#scatter svg .mark-symbol path")
        tab.wait_for_selector("#curves svg .mark-line path")
    try:
        yield tab
    finally:
        tab.close()
    assert len(faults) == said, faults


def methods(tab) -> list[str]:
    """The methods of the rows that the table shows."""
    return [text[2:] for text in tab.locator("tr.row > th button").all_inner_texts()]


def first_items(tab, method: str | None = None) -> None:
    """Unfold the first setting, of a method where one is named, and open the items of its first run."""
    rows = tab.locator("tr.row", has_text=method) if method else tab.locator("tr.row")
    rows.first.locator("th button").click()
    tab.locator(".items-button").first.click()
