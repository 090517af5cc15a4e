"""The report page carries the licence of every package whose code is in it, and says how to cite the work."""

import re
from pathlib import Path

import pytest
import vl_convert

from pissa_repro import __version__
from pissa_repro.report.page import licences as module
from pissa_repro.report.page.licences import licences
from pissa_repro.runtime.errors import UserError

FREE = ("robust-predicates",)  # in the public domain, by the Unlicense


def test_every_package_of_the_bundle_is_named():
    """What vl-convert holds, by the addresses of its modules; Vega's many packages are one project."""
    code = next(Path(vl_convert.__file__).parent.glob("*.so")).read_bytes()
    held = {name.decode() for name in re.findall(rb"/npm/([a-z0-9.-]{3,40})@[0-9.]+/\+esm", code)}
    assert {"vega", "d3-scale", "internmap"} <= held and "maxWait" not in vl_convert.javascript_bundle(), "of lodash"
    named = {name for names, _ in licences() for name in re.split(", | and ", names)}
    vega = {name for name in held if name.startswith("vega-")}
    assert held - vega - named - {*FREE, "lodash.debounce"} == set()


def test_the_page_has_the_texts_folded(tab):
    assert not tab.locator("#licences pre").first.is_visible()
    tab.locator("#licences summary").click()
    texts = tab.locator("#licences pre").all_inner_texts()
    assert len(texts) == len([*licences()]) and all(len(text) > 150 for text in texts)
    for words in ("Interactive Data Lab", "Mike Bostock", "Charles Karney", "Apache License", "Cynthia Brewer"):
        assert any(words in text for text in texts), words


def test_a_text_that_is_not_installed_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "files", lambda package: tmp_path / package)
    with pytest.raises(UserError, match="vega/LICENSE: no such licence text"):
        next(licences())


def test_it_says_how_to_cite_the_work_and_the_paper(tab):
    told = tab.inner_text("#cite")
    assert f"version = {{{__version__}}}" in told and "author = {{The pissa-repro authors}}" in told
    assert "@inproceedings{meng2024," in told and "eprint = {2404.02948}" in told
    assert "author = {Meng, Fanxu and Wang, Zhaohui and Zhang, Muhan}" in told
