"""Our scores beside the paper's tables of scores: a row for each method and model, a column for each benchmark."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pissa_repro import methods
from pissa_repro.paper.printed import LOSS, MODELS, PrintedRow
from pissa_repro.paper.published import printed
from pissa_repro.paper.words import NOT_COMPARABLE
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.labels import paper_method
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables import captions
from pissa_repro.report.tables.columns import diverged
from pissa_repro.report.tables.grid import Column, drawn, number
from pissa_repro.report.tables.sweep import fetched, row
from pissa_repro.report.tables.table import Row, Table, headed
from pissa_repro.results import noise
from pissa_repro.results.points import missing, scored_lines

CAPTION = (
    "In percent, MT-Bench in points of 10: ours ± the standard deviation over seeds, with one seed ± the standard "
    "error over its items; in brackets what {ref} prints, and whether ours agrees with it "
    "(docs/reproduction/verdicts.md). Empty: there is no such number. Rows without one of ours are the paper's."
)


@dataclass
class Setting:
    """One row in the making: what it is of, ours by benchmark, and the printed row beside it, if there is one."""

    facts: Row
    cell: Cell | None = None
    ours: dict[str, Row] = field(default_factory=dict)
    theirs: PrintedRow | None = None


def beside(
    sweep: Sweep, results: Path, heading: str, rows: Iterable[PrintedRow], ref: str, extra: Iterable[str] = ()
) -> Table:
    """Our cells beside printed rows, and the printed rows that none of ours is of.

    ref: the table of the paper. extra: what is shown beside the benchmarks, LOSS. Raises UserError where no cell has a
    record, and for one that is damaged or of another config.
    """
    theirs = list(rows)
    settings, without, names = _ours(sweep, results)
    _match(sweep, settings, theirs)
    used = [setting.theirs for setting in settings]
    settings += [_printed_alone(one) for one in theirs if one not in used]
    benchmarks = {name: name for name in extra} | names | {name: name for one in theirs for name in one.values}
    flat = [_flat(setting, benchmarks) for setting in settings]
    columns = tuple(dict.fromkeys(key for one in flat for key in one))
    words = [CAPTION.format(ref=ref), *captions.diverged(flat), _sentence(missing(sweep, without))]
    told = "\n\n".join(filter(None, words))
    return Table(columns, flat, f"## {heading}\n\n{drawn(flat, _shown(benchmarks))}\n\n{told}\n")


def _ours(sweep: Sweep, results: Path) -> tuple[list[Setting], list[Cell], dict[str, str]]:
    """Our settings in the config's order, the cells that have no record, and the columns with their benchmarks.

    Tasks of one benchmark have a column each, which names the task.
    """
    found: dict[tuple[object, ...], Setting] = {}
    hashes, names = fetched(sweep, results), {}
    benchmarks = {task: sweep.config["tasks"][task].get("paper", task) for task in sweep.config["sweep"]["tasks"]}
    without: dict[str, Cell] = {}
    for part, lines, absent in scored_lines(sweep, results):
        (task,) = part.config["sweep"]["tasks"]
        several = list(benchmarks.values()).count(benchmarks[task]) > 1
        name = f"{benchmarks[task]} (task {task})" if several else benchmarks[task]
        names[name] = benchmarks[task]
        without |= {cell.name: cell for cell in absent}
        floors = noise.by_place(part, lines)
        for line in lines:
            cell, one = line.first, row(part, line, None, hashes, floors[noise.place(line)])
            key = (cell.model, cell.data, cell.method, cell.quant, cell.rank, cell.learning_rate)
            setting = found.setdefault(key, Setting(_facts(one, cell), cell))
            setting.ours[name] = one
    return list(found.values()), list(without.values()), names


def _facts(one: Row, cell: Cell) -> Row:
    facts = {key: one[key] for key in ("model", "data", "method", "config_method", "rank", "learning_rate", "seeds")}
    lost = {"diverged": one["diverged"]} if one["diverged"] else {}
    return {**facts, **lost, "dtype": dict(cell.train)["dtype"], "commit": one["commit"]}


def _match(sweep: Sweep, settings: list[Setting], theirs: list[PrintedRow]) -> None:
    """Put each printed row beside our settings of the same model and method."""
    for setting in settings:
        assert setting.cell is not None  # all are ours
        model = sweep.config["models"][setting.cell.model].get("paper")
        method = paper_method(sweep.definition(setting.cell.method))
        fit = (one for one in theirs if (one.model, one.method) == (model, method))
        setting.theirs = next((one for one in fit if one.dtype in (None, setting.facts["dtype"])), None)


def _printed_alone(one: PrintedRow) -> Setting:
    """A printed row that none of ours is of."""
    init, _, more = one.method.partition("+")
    name = methods.display(init, "none") + (f" + {more.upper().replace('DORA', 'DoRA')}" if more else "")
    return Setting({"model": MODELS[one.model], "method": name, "dtype": one.dtype}, theirs=one)


def _flat(setting: Setting, benchmarks: Mapping[str, str]) -> Row:
    """The columns of a row: of each benchmark ours, the printed number, and the verdict."""
    flat, notes = dict(setting.facts), []
    for name, benchmark in benchmarks.items():
        mean, spread, items = _value(setting, name)
        value, std = setting.theirs.values.get(benchmark, (None, None)) if setting.theirs else (None, None)
        verdict, note = _verdict(setting, name, value)
        flat |= {
            name: mean,
            f"{name} std": spread,
            f"{name} stderr items": items,
            f"{name} published": value,
            f"{name} published std": std,
        }
        flat[f"{name} verdict"] = verdict
        notes += [f"{name}: {note}"] if note else []
    return flat | {"note": "; ".join(dict.fromkeys(notes))}


def _value(setting: Setting, name: str) -> tuple[float | None, float | None, float | None]:
    """The mean, its standard deviation over seeds, and the standard error over items of one run."""
    if name == LOSS:
        one = next(iter(setting.ours.values()), {})
        return one.get("final_loss_mean"), one.get("final_loss_std"), None
    one = setting.ours.get(name, {})
    return one.get("score_mean"), one.get("score_std"), one.get("score_stderr_items")


def _verdict(setting: Setting, name: str, value: float | None) -> tuple[str | None, str | None]:
    """The verdict of the sweep's table where it is on this printed number; else why there is none."""
    one = setting.ours.get(name)
    if name == LOSS or one is None:
        return None, None
    if value is None or one["paper_value"] == value or setting.theirs is None:
        return one["verdict"], one["note"]
    return NOT_COMPARABLE, setting.theirs.why


def _shown(benchmarks: Iterable[str]) -> dict[str, Column]:
    """The columns of the Markdown table."""
    words: dict[str, Column] = {
        "model": lambda row: row["model"],
        "method": lambda row: row["method"],
        "dtype": lambda row: row.get("dtype") or "",
        "rank": lambda row: number(row.get("rank"), "{}"),
        "learning rate": lambda row: number(row.get("learning_rate"), "{:g}"),
        "seeds": lambda row: number(row.get("seeds"), "{}"),
    }
    return words | {name: _column(name) for name in benchmarks}


def _column(name: str) -> Callable[[Row], str]:
    pattern = "{:.4f}" if name == LOSS else "{:.2f}"

    def shown(row: Row) -> str:
        several = row[f"{name} std"] is not None
        mine = number(row[name], pattern, row[f"{name} std" if several else f"{name} stderr items"])
        if row.get("diverged") and (name == LOSS or row[f"{name} verdict"] is not None):
            mine = diverged(row["diverged"], row["seeds"])
        theirs = number(row[f"{name} published"], pattern, row[f"{name} published std"])
        return " ".join(filter(None, [mine, f"({theirs})" if theirs else "", row[f"{name} verdict"] if theirs else ""]))

    return shown


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}." if words else ""


def glue_settings(heading: str) -> Table:
    """The settings that the paper prints for GLUE, a row for each task and method. No number of ours is in it."""
    table = printed("nlu_hyperparameters_v4")
    common = {key: table["common"][key] for key in ("rank", "optimizer", "schedule")}
    rows = [
        {"task": one["task"], "method": method, **settings, **common}
        for one in table["rows"]
        for method, settings in one.items()
        if method != "task"
    ]
    made = headed(heading, ["DeBERTa-v3-base"], [{**row, "lr": f"{row['lr']:g}"} for row in rows])
    where, odd = ", ".join(table["common"]["target_modules_text"]), "; ".join(table["anomalies"])
    caption = f"As printed ({table['paper_ref']}); adapters on {where}. Odd: {odd}."
    return Table(made.columns, rows, f"{made.markdown}\n{caption}\n")
