"""Writes the report page: the data and all that shows them, in one file."""

import os
import re
import time
import urllib.parse
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from pissa_repro import __version__
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.page.cite import bibtex
from pissa_repro.report.page.data import gather
from pissa_repro.report.page.files import files as files_of
from pissa_repro.report.page.items import CALL, embedded, samples_of, write_items
from pissa_repro.report.page.licences import licences
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import atomic, atomic_folder, refuse_existing, refuse_no_space

HERE = Path(__file__).parent
SCRIPTS = ("core.js", "table.js", "charts.js", "items.js", "main.js")
ROOM = 2**22  # bytes of the page itself, at most about
GENERATOR = "pissa-repro report"  # what tells a page of ours from another file of that name
TITLE = "pissa-repro: what the sweep found"
WORDS = {
    "An interval that holds 0": "shows no difference; it does not show equality.",
    "Verdict against the paper": "given only where model, data, recipe, rank and metric are the paper's; else the row "
    "is not comparable.",
    "An empty difference": "there is no plain LoRA, or there are several, on the same base, of the same rank and seeds "
    "and, where settings have several rates, at the same rate; or one of the two diverged.",
    "Mean of a setting": "over its seeds. Where one diverged there is none: a mean over the others would be of the "
    "lucky ones. Where seeds are missing it is of those that are there, and nothing is compared.",
}


def write(sweep: Sweep, results: Path, out: Path, files: Sequence[str] = (), again: bool = False) -> dict[str, Any]:
    """Write the page of a sweep to `out`, whole or not at all, and give the data that it shows.

    files: the config files, as the page names them. again: also over an older page. The items of the runs are in a
    folder beside it. Raises UserError for what is there and not ours, where there is no room, and as `gather` does.
    """
    folder = beside(out)
    refuse(out, folder, again)
    data = gather(sweep, results, files)
    sizes = (path.stat().st_size for path in samples_of(data["runs"], results).values())
    refuse_no_space(out, ROOM + 2 * sum(sizes))
    vega, stamp = bundle(), f"{time.time_ns():x}"
    with atomic_folder(folder) as place:
        asked = write_items(sweep, data["runs"], results, place, stamp)
    shown = data | {
        "config": ", ".join(files) or "the default config",
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "places": {"results": _link(results, out), "home": _link(paths.home(results), out)},
        "items": {"folder": urllib.parse.quote(folder.name), "stamp": stamp, "call": CALL, "asked": asked},
        "files": files_of(results),
        "words": WORDS,
    }
    with atomic(out) as file:
        file.write(page(shown, vega))
    return data


def beside(out: Path) -> Path:
    """The folder of items beside a page."""
    return out.with_name(f"{out.stem}_items")


def refuse(out: Path, folder: Path, again: bool) -> None:
    """Raise UserError unless the page and its folder of items may be written there."""
    if not out.resolve().parent.is_dir():
        raise UserError(f"--out {out}: no such folder {out.resolve().parent}.")
    ours = again and is_page(out)
    if not ours:
        refuse_existing(out, "file")
    if folder.exists() and not (ours and all(re.fullmatch(r"\d+\.js", path.name) for path in folder.iterdir())):
        raise UserError(f"--out {out}: the folder of its items, {folder}, is there already. Choose another name.")


def is_page(path: Path) -> bool:
    """Whether a file is a page of ours."""
    if not path.is_file():
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        return f'content="{GENERATOR}"' in file.read(2000)


def bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script, by vl-convert, without a network."""
    import vl_convert  # 84 MB, which --help does not need

    code: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub asks for what has a default
    return _script(f"(function () {{\n{code}\n}})();")  # its names stay its own


def page(data: dict[str, Any], vega: str) -> str:
    """The whole HTML. data: plain types; texts in it may hold anything."""
    code = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(TITLE),
        generator=GENERATOR,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        data=embedded(data),
        vega=vega,
        script=_script(f'(function () {{\n"use strict";\n{code}\n}})();'),
        footer=f"pissa-repro {escape(__version__)}. Charts: Vega, Vega-Lite and vega-embed (BSD-3-Clause, University "
        "of Washington Interactive Data Lab and contributors), D3 (ISC, Mike Bostock) and what they need.",
        cite=escape(bibtex()),
        licences="\n".join(f"<h3>{escape(name)}</h3><pre>{escape(text)}</pre>" for name, text in licences()),
    )


def _script(code: str) -> str:
    """Code that may stand inside of a script element."""
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _link(folder: Path, out: Path) -> str:
    """A folder as the page links to it, from where the page lies."""
    return urllib.parse.quote(os.path.relpath(folder.resolve(), out.resolve().parent)) + "/"
