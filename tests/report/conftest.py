"""A sweep for the report page, its page, and a browser."""

import shutil
import time
from pathlib import Path

import pytest
from reported import HOSTILE, Made, opened

from pissa_repro.report.page.write import write
from pissa_repro.runtime import paths

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Made:
    """A finished sweep. Do not write to it."""
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def page(tmp_path_factory, made) -> Path:
    """The page of a sweep with a training that failed, whose log and whose data's name hold HTML."""
    folder = tmp_path_factory.mktemp("page")
    failed = next(name for name in made.sweep.cells if "/lora-none-r16" in name)
    here = Made(folder, skip=[failed])
    log = paths.at(paths.log("train", failed), here.results)
    log.parent.mkdir(parents=True)
    log.write_text(f"error: {HOSTILE}\n", encoding="utf-8")
    here.sweep.config["datasets"]["gsm-mini-train"]["display"] = HOSTILE
    (here.results / "gsm8k_table.csv").touch()
    started = time.process_time()
    write(here.sweep, here.results, folder / "report.html", [str(here.config)])
    size = (folder / "report.html").stat().st_size
    print(f"report.html: {size / 1e6:.2f} MB in {time.process_time() - started:.2f} s of CPU")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium: Debian's package of that name has it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def tab(browser, page):
    """The page, opened."""
    with opened(browser, page) as tab:
        yield tab
