"""Run the embedded sweep in a fresh folder and say what its time was spent on.

python benchmarks/overhead.py [--cores 2] [--configfile FILE]
python benchmarks/overhead.py --finished FOLDER      # a sweep that has just run there, in one go

Work is training and generating, as the records have it. Everything else, above all starting
interpreters and importing, is overhead; the limit is 35 % of the wall time.
"""

import argparse
import json
import os
import re
import tempfile
from pathlib import Path

from common import keep, snakemake

from pissa_repro.runtime import paths

LIMIT = 0.35
CELL = paths.cell("*/*/*")
CELLS = {"train": CELL.train, "evaluate": CELL.score("*")}


def shares(folder: Path, wall: float, cores: int) -> dict[str, float]:
    """Fractions of the wall time: work and the rest, on `cores` cores with one job a core."""
    train, scores = (
        [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(str(pattern))]
        for pattern in CELLS.values()
    )
    engines = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(str(paths.batch("*/*/*")))]
    generating = sum(record["generated"]["seconds"] for record in scores)
    times = {  # seconds of work, and of the processes that did it
        "train": (sum(record["train_seconds"] for record in train), _inside(train)),
        "generate": (generating, _inside(engines)),
        "evaluate": (0.0, _inside(scores)),
    }
    found = {}
    for stage, (work, inside) in times.items():
        found |= {f"{stage}_work": work / cores / wall, f"{stage}_set_up": (inside - work) / cores / wall}
    return found | {"overhead": 1 - found["train_work"] - found["generate_work"]}


def _inside(records: list[dict]) -> float:
    return sum(record["provenance"]["seconds"] for record in records)


def elapsed(folder: Path) -> float:
    """Wall seconds of the longest run that Snakemake's logs in the folder tell of."""
    texts = [path.read_text(encoding="utf-8") for path in (folder / ".snakemake" / "log").glob("*.log")]
    times = [re.search(r"Elapsed time: (\d+):(\d+):([\d.]+)", text) for text in texts]
    return max(int(m[1]) * 3600 + int(m[2]) * 60 + float(m[3]) for m in times if m)


def report(found: dict[str, float], wall: float, cores: int) -> None:
    """Print the shares beside the limit, and keep them."""
    print(f"{wall:.0f} s on {cores} cores")
    for name, share in found.items():
        print(f"{name:16s} {100 * share:5.1f} %")
    print(f"overhead is {found['overhead'] / LIMIT:.2f} of the limit of {100 * LIMIT:.0f} %")
    keep("overhead", {"wall_seconds": wall, "cores": cores, "shares": found})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--configfile", nargs="*", default=[])
    parser.add_argument("--finished", type=Path)
    args = parser.parse_args()
    if args.finished:
        report(shares(args.finished, elapsed(args.finished), args.cores), elapsed(args.finished), args.cores)
        return
    with tempfile.TemporaryDirectory() as folder:
        extra = ["--configfile", *args.configfile] if args.configfile else []
        target = [str(paths.table("gsm8k_table")), "--cores", str(args.cores)]
        wall = snakemake(Path(folder), *target, *extra)
        report(shares(Path(folder), wall, args.cores), wall, args.cores)


if __name__ == "__main__":
    main()
