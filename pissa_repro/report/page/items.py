"""The single items of each run, in files beside the page: what was asked, answered and read from that.

A page from the file system cannot fetch, but may load scripts. So each file is a script that hands over a list; the
page loads those of a run when a reader asks for its items. Prompts are in files of their own, once for each task.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pissa_repro import tasks
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.page.settings import Row
from pissa_repro.results.pairs import text
from pissa_repro.results.scored import read_items
from pissa_repro.runtime import paths
from pissa_repro.runtime.record_types import Sample
from pissa_repro.sources.prompt import words_of

MOST = 2_000_000  # characters of a file, about: a browser reads it in a moment
CALL = "pissaItems"  # what the page listens with


def embedded(value: Any) -> str:
    """JSON that may stand inside of a script element: no text in it can end that, or begin a comment."""
    said = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        said = said.replace(sign, f"\\u{ord(sign):04x}")
    return said


def samples_of(runs: Iterable[Row], results: Path) -> dict[int, Path]:
    """The files of items of the runs that have them, by the runs' places."""
    done = {place: run for place, run in enumerate(runs) if run["state"] == "done"}
    return {place: paths.samples(paths.at(Path(run["record"]), results)) for place, run in done.items()}


def write_items(sweep: Sweep, runs: list[Row], results: Path, folder: Path, stamp: str) -> dict[str, list[int]]:
    """Write the files 0.js, 1.js, … into a folder; each run gets "items", the numbers of its own.

    And "many", how many items these are; "higher" and "lower", of how many the score is more or less than that of the
    reference. Gives the numbers of the files with the prompts of each task. stamp: says to which page they belong. A
    prompt's item is [id, the user's words, target]; a run's is [text, what the answer rule reads from it, score], None
    for what is not there. Raises UserError for samples that are damaged.
    """
    asked: dict[str, list[int]] = {}
    scores = {}
    count = 0
    for place, path in samples_of(runs, results).items():
        run = runs[place]
        task = Path(run["record"]).stem
        rows, scores[place] = read_items(path)
        run["many"] = len(rows)
        kinds = [(run.setdefault("items", []), answered(sweep.config["tasks"][task]["task"], rows))]
        if task not in asked:
            kinds.append(
                (asked.setdefault(task, []), ([row["id"], words_of(row["prompt"]), _target(row)] for row in rows))
            )
        for numbers, items in kinds:
            for part in _parts(items):
                (folder / f"{count}.js").write_text(f'{CALL}("{stamp}",{count},[{part}]);\n', encoding="utf-8")
                numbers.append(count)
                count += 1
    for place, own in scores.items():
        against = runs[place].get("against")
        if against in scores:
            runs[place]["higher"] = int((own > scores[against]).sum())
            runs[place]["lower"] = int((own < scores[against]).sum())
    return asked


def _target(row: Sample) -> str:
    target = row.get("target", "")
    return "" if target == row["prompt"] else str(target)  # of a text that is predicted there is no answer


def answered(file: str, rows: list[Sample]) -> Iterator[list[Any]]:
    """What a run answered, item by item. file: the task file."""
    rules = tasks.load(file).rules
    for row in rows:
        said = text(row)
        read = None if said is None else rules.extracted(str(row.get("target", "")), said)
        yield [said, read, row[tasks.METRIC]]


def _parts(items: Iterable[list[Any]]) -> Iterator[str]:
    """The items as texts of at most about MOST characters, each whole items; one, empty, where there is none."""
    part: list[str] = []
    size = 0
    for item in items:
        said = embedded(item)
        if part and size + len(said) > MOST:
            yield ",".join(part)
            part, size = [], 0
        part.append(said)
        size += len(said)
    yield ",".join(part)
