"""How much memory a cell takes to be merged into a folder: a few of its weights (Linux only)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from large import cell_of, save_llama
from safetensors.torch import load_file

from pissa_repro.model import factors
from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.record import read_json

WIDE, LAYERS = 1024, 8  # seven square matrices each: 235 MB in float32
MOST = 0.2  # of the model in float32; 0.12 was measured, and merged whole it takes all of it

CHILD = """
import json, sys
from pathlib import Path
from pissa_repro.model.merged import TrainedCell
from pissa_repro.model.merging import streamed_model
from pissa_repro.runtime.record import read_json

def now(what):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))

spec, *cells = json.loads(sys.argv[1])
for model, start, trained, out in cells:
    open("/proc/self/clear_refs", "w").write("5")
    before = now("VmRSS")
    cell = TrainedCell(spec, Path(start), Path(trained))
    merged = streamed_model(cell, read_json(Path(model)), [[3, 40, 17]], "cpu")
    merged.save(out, "bfloat16")
print(type(merged).__name__, now("VmHWM") - before)
"""


def trained_cell(folder: Path, layers: int):
    """A cell with twice its start in the place of a training."""
    run = cell_of(folder / "cell", save_llama(folder / "model", WIDE, layers), "pissa", "nf4", dtype="bfloat16")
    tensors = {
        key: 2 * one if ".lora_B." in key else one for key, one in load_file(run.start / factors.FACTORS).items()
    }
    fields = read_json(run.start / factors.CONFIG) | {"task_type": "CAUSAL_LM"}
    factors.save_trained(run.factors, tensors, fields, run.start)
    (folder / "merged").mkdir()
    return run.spec, [str(place) for place in (run.model, run.start, run.trained, folder / "merged")]


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks of memory are Linux's")
def test_a_merge_takes_a_few_weights_and_not_the_model(tmp_path):
    """The first cell, a small one, loads every library that is loaded late."""
    (spec, small), (_, large) = (trained_cell(tmp_path / str(layers), layers) for layers in (1, LAYERS))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "262144", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHILD, json.dumps([spec, small, large])]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=900)
    assert done.returncode == 0, done.stderr
    kind, peak = done.stdout.split()
    whole = 4 * 7 * LAYERS * WIDE**2
    print(f"{kind}: peak {int(peak) / 1e6:.0f} MB, {int(peak) / whole:.2f} of the model in float32")
    assert kind == "Streamed" and int(peak) < MOST * whole
    assert sum(path.stat().st_size for path in (tmp_path / str(LAYERS) / "merged").glob("*.safetensors")) > whole / 2
