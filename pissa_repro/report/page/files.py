"""The tables and figures that the workflow has made, for the page to link to."""

from pathlib import Path

from pissa_repro.runtime import paths

TABLES = ("scores.csv", "*_table.csv", "paper/*.csv", "extra/*.csv")


def files(results: Path) -> dict[str, list[str]]:
    """By place, such as "paper/table8": the files that are there, as paths from where the sweep runs; tables first.

    Whichever config made them: sweeps may share a folder.
    """
    figures = paths.at(paths.FIGURES, results)
    tables = [_place(path, results) for pattern in TABLES for path in sorted(results.glob(pattern))]
    drawn = [_place(path, figures) for path in sorted(figures.rglob("*.svg"))]
    found = {place: [paths.table(place, ending) for ending in ("csv", "md")] for place in tables}
    found |= {place: [paths.figure(place, ending) for ending in ("svg", "png")] for place in drawn}
    return {place: [str(path) for path in some if paths.at(path, results).is_file()] for place, some in found.items()}


def _place(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
