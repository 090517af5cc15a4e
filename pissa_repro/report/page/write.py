"""Writes the report page: the data and all that shows them, in one file."""

import json
import os
import time
import urllib.parse
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from pissa_repro import __version__
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.page.data import gather
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import atomic, refuse_existing

HERE = Path(__file__).parent
SCRIPTS = ("core.js", "table.js", "charts.js", "main.js")
GENERATOR = "pissa-repro report"  # what tells a page of ours from another file of that name
TITLE = "pissa-repro: what the sweep found"
WORDS = {
    "An interval that holds 0": "shows no difference; it does not show equality.",
    "Verdict against the paper": "given only where model, data, recipe, rank and metric are the paper's; else the row "
    "is not comparable.",
    "Mean of a setting": "over its seeds. Where one diverged there is none: a mean over the others would be of the "
    "lucky ones. Where seeds are missing it is of those that are there, and nothing is compared.",
}


def write(sweep: Sweep, results: Path, out: Path, files: Sequence[str] = (), again: bool = False) -> dict[str, Any]:
    """Write the page of a sweep to `out`, whole or not at all, and give what it shows.

    files: the config files, as the page names them. again: also over an older page. Raises UserError for a file that is
    there and no page of ours, and as `gather` does.
    """
    refuse(out, again)
    vega = bundle()
    data = gather(sweep, results, files)
    shown = data | {
        "config": ", ".join(files) or "the default config",
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "places": {"results": _link(results, out), "home": _link(paths.home(results), out)},
        "words": WORDS,
    }
    with atomic(out) as file:
        file.write(page(shown, vega))
    return data


def refuse(out: Path, again: bool) -> None:
    """Raise UserError unless the page may be written there."""
    if not out.resolve().parent.is_dir():
        raise UserError(f"--out {out}: no such folder {out.resolve().parent}.")
    if not (again and is_page(out)):
        refuse_existing(out, "file")


def is_page(path: Path) -> bool:
    """Whether a file is a page of ours."""
    if not path.is_file():
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        return f'content="{GENERATOR}"' in file.read(2000)


def bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script, by vl-convert, without a network."""
    try:
        import vl_convert
    except ImportError:
        raise UserError(
            "the report page needs vl-convert-python: pip install -e '.[report]' -c constraints.txt"
        ) from None
    code: str = vl_convert.javascript_bundle()
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
        footer=f"pissa-repro {escape(__version__)}. Charts by Vega-Lite.",
    )


def embedded(value: Any) -> str:
    """JSON that may stand inside of a script element: no text in it can end that, or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _script(code: str) -> str:
    """Code that may stand inside of a script element."""
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _link(folder: Path, out: Path) -> str:
    """A folder as the page links to it, from where the page lies."""
    return urllib.parse.quote(os.path.relpath(folder.resolve(), out.resolve().parent)) + "/"
