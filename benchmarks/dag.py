"""Time the dry run of large sweeps: python benchmarks/dag.py [--repeats 5]

The cost of the workflow itself has to grow linearly with the sweep.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import yaml
from common import keep, snakemake

SEEDS = {102: 17, 300: 50, 1002: 167}  # six cells a seed


def measure(folder: Path, repeats: int) -> dict[int, list[float]]:
    """Wall seconds of dry runs by number of cells; the sizes take turns, so that drift hits all alike."""
    found: dict[int, list[float]] = {cells: [] for cells in SEEDS}
    for _ in range(repeats):
        for cells, seeds in SEEDS.items():
            config = folder / "sweep.yaml"
            config.write_text(yaml.safe_dump({"sweep": {"seeds": list(range(seeds))}}), encoding="utf-8")
            found[cells].append(snakemake(folder, "-n", "-q", "all", "--configfile", str(config)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Path(folder), repeats)
    medians = {cells: statistics.median(times) for cells, times in seconds.items()}
    for cells, times in seconds.items():
        print(f"{cells:5d} cells: median {medians[cells]:.2f} s (min {min(times):.2f}, max {max(times):.2f})")
    small, middle, large = SEEDS
    first = (medians[middle] - medians[small]) / (middle - small)
    second = (medians[large] - medians[middle]) / (large - middle)
    print(f"one more cell: {1000 * first:.2f} ms; beyond {middle} cells, {second / first:.2f} times that")
    print(f"{large} cells take {60 / medians[large]:.0f} times less than the limit of 60 s")
    keep("dag", {"seconds": seconds, "ms_per_cell": [1000 * first, 1000 * second]})


if __name__ == "__main__":
    main()
