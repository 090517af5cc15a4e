"""Plan, run and judge the cells behind one published number.

    pissa reproduce --table 2 --model llama-2-7b --method pissa
    pissa reproduce --table 9 --model llama-3-8b --method qpissa --quant int8 --benchmark gsm8k

The config is config/paper.yaml (for other benchmarks than GSM8K with config/benchmarks.yaml) with the sweep narrowed to
the cells of that number, its seeds included; CONFIGS are laid over it. Prints these cells, which of them are finished,
what the finished ones took, and the command. --run runs it: snakemake makes what is missing. Where all scores are
there, the verdict follows (docs/reproduction/verdicts.md).

MODEL and METHOD are the table's, in this project's words or the paper's; a wrong one is answered with the choices.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pissa_repro.paper import behind
from pissa_repro.paper.published import Published, lookup
from pissa_repro.paper.verdict import source
from pissa_repro.plan.checked import checked
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json

if TYPE_CHECKING:
    from pissa_repro.plan.cells import Cell

FIRST = "gsm8k"  # the benchmark of config/paper.yaml
CONFIG = ROOT / "config"


def reproduce(
    table: Annotated[str, typer.Option(help="Number of a table of the paper's version 4.")],
    model: Annotated[str, typer.Option(help="The paper's model.")],
    method: Annotated[str, typer.Option(help="The method.")],
    quant: Annotated[str | None, typer.Option(help="Quantization (default: as the method's row has it).")] = None,
    benchmark: Annotated[str, typer.Option(help="The benchmark.")] = FIRST,
    run: Annotated[bool, typer.Option("--run", help="Make what is missing.")] = False,
    cores: Annotated[str, typer.Option(help="For --run: of snakemake.")] = "all",
    profile: Annotated[Path | None, typer.Option(help="For --run: of snakemake, such as profiles/gpu.")] = None,
    configs: Annotated[list[Path] | None, typer.Argument(help="Config files, the last one wins.")] = None,
) -> None:
    """The plan, and the verdict where there is one."""
    entry = behind.chosen(table, model, method, quant, benchmark)
    files = [CONFIG / "paper.yaml", *([CONFIG / "benchmarks.yaml"] if benchmark != FIRST else []), *(configs or ())]
    config = load(CONFIG / "config.yaml", *files)
    narrowed = behind.narrowed(config, entry)
    config["sweep"] |= narrowed  # type: ignore[typeddict-item]  # keys of a sweep
    sweep, _ = checked(config)
    command = ["snakemake", *map(str, _targets(sweep)), "--cores", cores]
    command += ["--profile", str(profile)] if profile else []
    command += ["--configfile", *map(_shown, files), "--config", f"sweep={json.dumps(narrowed)}"]
    print("\n".join([*_plan(sweep, entry), f"to run: {shlex.join(command)}"]), flush=True)
    if run:
        place = ["-m", *command[:1], "--snakefile", str(ROOT / "Snakefile")]
        if code := subprocess.run([sys.executable, *place, *command[1:]], check=False).returncode:
            raise UserError(f"snakemake ended with exit code {code}; its messages are above. Run it again to go on.")
    print("\n".join(_verdict(sweep)))


def _targets(sweep: Sweep) -> list[Path]:
    """The records of the scores behind the number."""
    (task,) = sweep.config["sweep"]["tasks"]
    return [paths.cell(name).score(task) for name in sweep.cells]


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _plan(sweep: Sweep, entry: Published) -> list[str]:
    """The number, its cells, and what those that are finished took."""
    first = next(iter(sweep.cells.values()))
    published = lookup(entry.model, entry.method, entry.quant, first.rank, entry.benchmark) or [entry]
    spread = f" ± {entry.std:g}" if entry.std is not None else ""
    number = f"{entry.model}, {sweep.display(first)}, {entry.benchmark}: {entry.mean:g}{spread}; {source(published)}"
    amounts = {"start": len(sweep.starts), "training": len(sweep.cells), "score": len(_targets(sweep))}
    counts = ", ".join(f"{count} {what}{'s' if count != 1 else ''}" for what, count in amounts.items())
    cells = [_cell(cell, target) for cell, target in zip(sweep.cells.values(), _targets(sweep), strict=True)]
    return [number, f"{len(cells)} cells: {counts}", *cells]


def _cell(cell: "Cell", score: Path) -> str:
    """One cell, and how far it is. A cost is known where a record has it."""
    home = paths.cell(cell.name)
    if not home.train.is_file():
        return f"  {home.folder}: not trained; what it costs is not known before one is"
    record = read_json(home.train)
    from pissa_repro.results.costs import peak

    lost = f", diverged at step {record['diverged']}" if "diverged" in record else ""
    took = f"trained in {record['train_seconds']:.0f} s, peak memory {peak(record['provenance']):.1f} GiB{lost}"
    return f"  {home.folder}: {took}, {'scored' if score.is_file() else 'not scored'}"


def _verdict(sweep: Sweep) -> list[str]:
    """The score over the seeds beside the published one, and the word; what is missing where something is."""
    targets = _targets(sweep)
    if missing := [path for path in targets if not path.is_file()]:
        return [f"no verdict yet: {len(missing)} of {len(targets)} scores are missing; --run makes them"]
    from pissa_repro.report.tables.columns import diverged
    from pissa_repro.report.tables.sweep import verdict_of

    row = verdict_of(sweep, paths.RESULTS)
    spread = "" if row["score_std"] is None else f" ± {row['score_std']:.2f}"
    over = f"{row['seeds']} seeds, {row['n']} items" if row["seeds"] > 1 else f"one seed, {row['n']} items"
    lost = diverged(row["diverged"] or 0, row["seeds"])
    ours = lost or f"{row['score_mean']:.2f}{spread} over {over}"
    lines = [f"ours: {ours}", f"verdict: {row['verdict']}", f"  {row['note']}"]
    return lines + ([f"third party: {row['third_party']}"] if row["third_party"] else [])
