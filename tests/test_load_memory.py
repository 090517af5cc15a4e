"""How much memory a cell takes on its way into memory: little more than it takes when it is there (Linux only)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import Run
from tiny import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from pissa_repro.model import checkpoint, factors
from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.record import read_json, write_lines

WIDE, LAYERS, RANK = 1280, 28, 4  # 196 square matrices: 1,285 MB in float32, 181 MB in 4 bits
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


def cell_of(folder: Path, layers: int, quant: str) -> Run:
    """A cell in bfloat16 whose start, random factors, is taken out of the base."""
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=WIDE, intermediate_size=WIDE, num_hidden_layers=layers,
        num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=256, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_lines(folder / "rows.jsonl", [{"prompt": "Ann has 2", "response": f"{n}"} for n in range(4)])
    run = Run(folder, folder / "model", folder / "rows.jsonl", "pissa", quant, dtype="bfloat16", max_length=256)
    made, generator = factors.Factors({}, {}, "start", RANK, float(RANK), False), torch.Generator().manual_seed(0)
    for name in checkpoint.weights(folder / "model", checkpoint.projections(folder / "model")):
        made.A[name], made.B[name] = (0.01 * torch.randn(s, generator=generator) for s in ((RANK, WIDE), (WIDE, RANK)))
    factors.save(run.start, made, read_json(run.model), "pissa", quant)
    return run


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks of memory are Linux's")
@pytest.mark.parametrize("quant", ["nf4", "none"])
def test_a_cell_takes_little_more_on_its_way_than_when_it_is_there(tmp_path, quant):
    small, large = (cell_of(tmp_path / str(layers), layers, quant) for layers in (1, LAYERS))
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
