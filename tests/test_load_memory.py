"""How much memory a cell takes on its way into memory: little more than it takes when it is there (Linux only)."""

import json
import os
import subprocess
import sys

import pytest
from large import cell_of, save_llama

from pissa_repro.plan.config import ROOT

WIDE, LAYERS = 1280, 28  # 196 square matrices: 1,285 MB in float32, 181 MB in 4 bits
MOST = 1.2  # of what the cell takes when it is prepared

# The small cell loads every library that is loaded late. The peak then starts again at what is in use.
CHILD = """
import json, sys
from pathlib import Path
from pissa_repro.runtime.record import read_json
from pissa_repro.training import cell

def now(what):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))

spec, *cells = json.loads(sys.argv[1])
kept = []
for model, rows, start in cells:
    open("/proc/self/clear_refs", "w").write("5")
    before = now("VmRSS")
    kept.append(cell.prepare(spec, read_json(Path(model)), Path(rows), Path(start)))
print(now("VmHWM") - before, now("VmRSS") - before)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks of memory are Linux's")
@pytest.mark.parametrize("quant", ["nf4", "none"])
def test_a_cell_takes_little_more_on_its_way_than_when_it_is_there(tmp_path, quant):
    small, large = (
        cell_of(tmp_path / f"cell{n}", save_llama(tmp_path / f"model{n}", WIDE, n), "pissa", quant, dtype="bfloat16")
        for n in (1, LAYERS)
    )
    given = [large.spec, *([str(run.model), str(run.rows), str(run.start)] for run in (small, large))]
    # freed memory goes back to the system at once, so that the peak is what was in use
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHILD, json.dumps(given)]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=900)
    assert done.returncode == 0, done.stderr
    peak, steady = map(int, done.stdout.split())
    print(f"{quant}: peak {peak / 1e6:.0f} MB, {steady / 1e6:.0f} MB when it is there, {peak / steady:.2f} times")
    values = 7 * LAYERS * WIDE**2
    least = values // 2 if quant == "nf4" else 2 * values
    assert least < steady < 1.5 * least < 4 * values
    assert peak < MOST * steady
