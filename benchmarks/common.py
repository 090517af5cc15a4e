"""What the benchmarks share: running snakemake in a folder of its own, and keeping the result."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pissa_repro.runtime.provenance import git_state, hardware, versions

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "benchmarks"


def snakemake(folder: Path, *arguments: str) -> float:
    """Run the project's workflow in a folder; return the wall seconds. Raises on failure."""
    bin_folder = Path(sys.executable).parent
    command = [bin_folder / "snakemake", "-s", ROOT / "Snakefile", "-d", folder, *arguments]
    started = time.perf_counter()
    subprocess.run(
        command, check=True, capture_output=True, env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    )
    return time.perf_counter() - started


def peak_resident() -> int:
    """Peak resident bytes of this process. Not ru_maxrss: it begins with what the parent process had."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def keep(name: str, result: dict[str, Any], folder: Path = RESULTS) -> None:
    """Append the result, with machine, versions and commit, to <name>.jsonl; a "name" of its own goes before."""
    path = folder / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {"name": name, **result, "hardware": hardware(), "versions": versions(), "git": git_state()}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")
