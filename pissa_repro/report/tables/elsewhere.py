"""The rows of other people's results below a sweep's own: their numbers and their source, never a difference."""

from collections.abc import Mapping
from typing import Any

from pissa_repro.exchange.found import Found, Read
from pissa_repro.paper.words import NOT_COMPARABLE
from pissa_repro.plan import elsewhere as planned
from pissa_repro.plan.sections import WrittenElsewhere
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.columns import COLUMNS
from pissa_repro.report.tables.grid import Row, grid
from pissa_repro.results import stats
from pissa_repro.results.measure import Measure, measure_of

GIB = 2**30
HEADING = "### Elsewhere: {source}"
NOTE = "elsewhere: {source}, {file}; unpaired, for its items are not known"
CAPTION = (
    "These are results of others, read from {files} and not run here ({source}). That they are of {model}, {data} and "
    "{benchmark} is the config's word{checked}. Their prompts, answer rules, steps and losses are their own. Nothing "
    "is compared: without their items no difference can be paired, and none has a verdict."
)
CHECKED = ", and the model's name is that of the files"
SKIPPED = "Runs without a score: {runs}."


def rows(sweep: Sweep) -> list[Row]:
    """A row for each run, or for several that differ in their seed, with the columns that its file knows."""
    found = []
    for name, given in planned.swept(sweep.config).items():
        read = planned.read(sweep.config, name)
        found += [_row(sweep, given, read, run) for run in read.runs]
    return found


def _row(sweep: Sweep, given: WrittenElsewhere, read: Read, run: Found) -> Row:
    config, shown = sweep.config, measure_of(sweep.config["tasks"][given["task"]]["task"])
    test = config["tasks"][given["task"]]["dataset"]
    return {
        **dict.fromkeys(COLUMNS),
        "model": config["models"][given["model"]].get("display", given["model"]),
        "benchmark": config["datasets"][test].get("display", test),
        "data": config["datasets"][given["dataset"]].get("display", given["dataset"]),
        "task": given["task"],
        "method": f"{run.method} (elsewhere)",
        **_numbers(run, shown),
        "verdict": NOT_COMPARABLE,
        "note": NOTE.format(source=given["source"], file=run.file.name),
        "place": (given["task"], given["model"], given["dataset"]),
        "measure": shown,
        "source": given["source"],
        "file": run.file.name,
        "skipped": read.skipped,
        "checked": bool(run.base and "hub" in config["models"][given["model"]]),
    }


def _numbers(run: Found, shown: Measure) -> dict[str, Any]:
    mean, spread = stats.mean_std([shown.scale * score for score in run.scores])
    return {
        "rank": run.rank,
        "learning_rate": run.learning_rate,
        "seeds": len(run.scores),
        "n": run.n,
        "trainable_parameters": run.parameters,
        "final_loss_mean": run.loss,
        "unit": shown.unit,
        "score_mean": mean,
        "score_std": spread,
        "score_stderr_items": None if run.stderr is None else shown.scale * run.stderr,
        "train_seconds_mean": run.train_seconds,
        "peak_memory_gib": run.peak_bytes / GIB if run.peak_bytes else None,
    }


def parts(found: list[Row]) -> dict[Any, list[str]]:
    """What the Markdown says of these rows, by the place of the table that they stand in; a part for each source."""
    places: dict[Any, dict[str, list[Row]]] = {}
    for row in found:
        places.setdefault(row["place"], {}).setdefault(row["source"], []).append(row)
    return {place: [text for here in some.values() for text in _part(here)] for place, some in places.items()}


def _part(found: list[Row]) -> list[str]:
    names = dict.fromkeys(row["file"] for row in found)
    first, files = found[0], next(iter(names)) if len(names) == 1 else f"{len(names)} files"
    words = CAPTION.format(**{**first, "files": files, "checked": CHECKED if first["checked"] else ""})
    skipped = [SKIPPED.format(runs="; ".join(first["skipped"]))] if first["skipped"] else []
    return [HEADING.format(**first), grid(found, False, True), " ".join([words, *skipped])]


def together(*texts: Mapping[Any, list[str]]) -> dict[Any, list[str]]:
    """What several kinds of rows say, by place, one after the other."""
    return {place: [text for some in texts for text in some.get(place, [])] for some in texts for place in some}
