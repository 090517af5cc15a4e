"""What a decomposition takes: announced from headers alone, the memory of a few matrices whatever the model's size."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from stage import init_spec
from transformers import LlamaConfig, LlamaForCausalLM

from pissa_repro.plan.config import ROOT
from pissa_repro.starts.estimate import init_cost, residual_cost

# A large Llama: 80 layers, 70.6e9 weights in bfloat16, in files of 4.5 GB.
WIDTH, INNER, KEYS, WORDS, LAYERS = 8192, 28672, 1024, 128256, 80
RANK = 16
# VmHWM and not ru_maxrss, which counts what the parent had in memory; the peak starts again at what is in use.
CHILD = """
import json, sys
from functools import partial
from pathlib import Path
from pissa_repro.adapters import released, released_plan
from pissa_repro.sources.fetched import fetch_model
from pissa_repro.starts.make import start_modules

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

small, large, spec, out = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), Path(sys.argv[4])

def run(folder, out):
    plan = released_plan.plan(released_plan.Asked(fetch_model({"path": folder}), [spec], out))
    released.write(plan, partial(start_modules, specs=[spec], kept=None))

run(small, out / "small")  # loads every library that is loaded late
open("/proc/self/clear_refs", "w").write("5")
before = peak()
run(large, out / "large")
print(peak() - before)
"""


def shapes() -> Iterator[dict[str, tuple[int, ...]]]:
    """The tensors of each file, five layers in most."""
    sides = {"q": (WIDTH, WIDTH), "k": (KEYS, WIDTH), "v": (KEYS, WIDTH), "o": (WIDTH, WIDTH)}
    inner = {"gate": (INNER, WIDTH), "up": (INNER, WIDTH), "down": (WIDTH, INNER)}
    yield {"model.embed_tokens.weight": (WORDS, WIDTH)}
    for first in range(0, LAYERS, 5):
        of_layers = {}
        for layer in range(first, first + 5):
            of_layers |= {f"model.layers.{layer}.self_attn.{name}_proj.weight": sides[name] for name in sides}
            of_layers |= {f"model.layers.{layer}.mlp.{name}_proj.weight": inner[name] for name in inner}
        yield of_layers
    yield {"lm_head.weight": (WORDS, WIDTH), "model.norm.weight": (WIDTH,)}


@pytest.fixture(scope="module")
def seventy(tmp_path_factory) -> Path:
    """A folder with the headers of 70 billion weights, and holes in the files in the place of these."""
    folder, place = tmp_path_factory.mktemp("large") / "model", {}
    folder.mkdir()
    for number, tensors in enumerate(shapes()):
        path, header, end = folder / f"model-{number:05}.safetensors", {}, 0
        for name, shape in tensors.items():
            size = 2 * torch.Size(shape).numel()
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
            end, place[name] = end + size, path.name
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        os.truncate(path, 8 + len(text) + end)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}), encoding="utf-8")
    index = {"metadata": {}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def test_seventy_billion_weights_fit_64_gb_of_memory(seventy):
    """Also several ranks at once: of the factors, 6.6 GB at rank 128, those of one file are held."""
    specs = [init_spec(rank=rank, quant="nf4", options={"svd": "fast", "alternations": 5}) for rank in (64, 128)]
    cost = residual_cost(str(seventy), specs)
    print(f"{cost.memory / 1e9:.1f} GB, with all factors {init_cost(str(seventy), specs).memory / 1e9:.1f} GB")
    assert cost.matrices == 7 * LAYERS and cost.memory < 8e9
    assert init_cost(str(seventy), specs).memory > cost.memory + 8e9


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    """A small model and a large one, in bfloat16, a file for each layer."""
    torch.manual_seed(0)
    folder, found = tmp_path_factory.mktemp("memory"), []
    for name, width, layers in (("small", 576, 1), ("large", 1536, 3)):
        config = LlamaConfig(
            vocab_size=300, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
            num_attention_heads=4, dtype="bfloat16",
        )  # fmt: skip
        model = LlamaForCausalLM(config).bfloat16()
        model.config.save_pretrained(folder / name)
        tensors = model.state_dict()
        place = {key: f"model-{key.split('.')[2] if '.layers.' in key else 'rest'}.safetensors" for key in tensors}
        for file in set(place.values()):
            of_file = {key: tensors[key] for key in tensors if place[key] == file}
            save_file(of_file, folder / name / file, {"format": "pt"})
        index = json.dumps({"metadata": {}, "weight_map": place})
        (folder / name / "model.safetensors.index.json").write_text(index, encoding="utf-8")
        found.append(folder / name)
    return found


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks of memory are Linux's")
def test_a_decomposition_takes_a_few_copies_of_the_largest_weight_as_announced(models, tmp_path):
    targets = ["q_proj", "up_proj", "down_proj"]
    spec = init_spec(quant="nf4", rank=RANK, options={"svd": "fast", "alternations": 2}, target_modules=targets)
    # freed memory goes back to the system at once, so that the peak is what was in use
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHILD, *map(str, models), json.dumps(spec), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    growth, announced = int(done.stdout), residual_cost(str(models[1]), [spec]).memory
    whole = sum(path.stat().st_size for path in models[1].glob("*.safetensors"))
    largest = 4 * 2 * 1536**2
    print(f"{growth / largest:.2f} largest weights, {growth / announced:.2f} of the announced")
    assert announced / 3 < growth < 1.5 * announced
    assert growth < 6 * largest < whole
