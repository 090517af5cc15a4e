"""The licences of the chart library inside of the page, for whoever gives the page away.

vl-convert brings the code without its texts. Snakemake has the same library in its own report, with the text of each
part: they are taken from there when a page is made. D3's modules have changed their licence since: see `_d3`.
"""

from collections.abc import Iterator
from importlib.resources import files

from pissa_repro.runtime.errors import UserError

VEGA = "vega vega-lite vega-embed vega-schema-url-parser vega-themes vega-tooltip".split()
D3 = (  # from their third major version on, as the bundle has them
    "array color dispatch dsv force format geo geo-projection hierarchy interpolate path quadtree scale "
    "scale-chromatic shape time time-format timer"
).split()
OTHERS = (
    "clone d3-delaunay delaunator fast-deep-equal fast-json-patch fast-json-stable-stringify "
    "json-stringify-pretty-compact semver topojson-client"
).split()
ADAPTED = "d3-contour d3-regression esprima fabric hashlru quickselect regression science".split()  # inside of Vega


def licences() -> Iterator[tuple[str, str]]:
    """Names of packages, and the text that goes with them. Raises UserError where Snakemake has not got one."""
    for name in (*VEGA, *OTHERS, *ADAPTED):
        yield name, _text(name, "LICENSE.BSD" if name == "esprima" else "LICENSE")
    yield ", ".join([*(f"d3-{name}" for name in D3), "internmap"]), _d3()
    yield "d3-geo and d3-geo-projection: code of others in them", _text("d3-geo") + "\n\n" + _text("d3-geo-projection")
    yield "commons-math, and the colours of d3-scale-chromatic", _text("commons-math", "LICENSE.txt")
    yield "commons-math: its notice", _text("commons-math", "NOTICE.txt")


def _d3() -> str:
    """The licence of D3's modules: ISC, as that of topojson-client by the same author; Snakemake has their older BSD.

    Source: the LICENSE of d3-scale-chromatic 3.1.
    """
    terms = _text("topojson-client").partition("\n")[2].strip()
    return (
        f"Copyright 2010-2024 Mike Bostock\n\n{terms}\n\nColorBrewer: Copyright (c) 2002 Cynthia Brewer, Mark "
        "Harrower, and The Pennsylvania State University. Licensed under the Apache License, Version 2.0, below."
    )


def _text(name: str, file: str = "LICENSE") -> str:
    place = files("snakemake") / "assets" / "data" / name / file
    try:
        return place.read_text(encoding="utf-8").strip()
    except OSError:
        raise UserError(
            f"{place}: no such licence text, which the page must carry. Install snakemake anew: pip install "
            "--force-reinstall snakemake -c constraints.txt"
        ) from None
