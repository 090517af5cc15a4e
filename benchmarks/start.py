"""What the start of `pissa --help` costs beside `import typer`: python benchmarks/start.py [--pairs 11]

Whole processes, the two in turn, so that other work on the machine hits both alike; the ratio of each pair, their
median and spread. More than LIMIT times as long fails: the help imports no command.
"""

import argparse
import statistics
import subprocess
import sys
import time

from common import ROOT, keep

LIMIT = 2.0
PROCESSES = {"help": ["-m", "pissa_repro", "--help"], "import": ["-c", "import typer"]}


def seconds(words: list[str]) -> float:
    """Wall seconds of a Python process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=11)
    pairs = parser.parse_args().pairs
    for words in PROCESSES.values():
        seconds(words)  # byte code and the disk's cache
    found = [{name: seconds(words) for name, words in PROCESSES.items()} for _ in range(pairs)]
    ratios = sorted(pair["help"] / pair["import"] for pair in found)
    median = statistics.median(ratios)
    spread = f"median of {pairs} pairs, {ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(f"pissa --help takes {median:.2f} times as long as `import typer` ({spread})")
    keep("start", {"pairs": found, "median_ratio": median})
    if median > LIMIT:
        sys.exit(f"error: more than {LIMIT} times")


if __name__ == "__main__":
    main()
