"""Initialise every weight of a model of LLaMA's shapes: seconds, memory, bytes (part of benchmarks/init.py).

The weights are a Gaussian bulk and a power law of 256 directions, written as sharded bfloat16
safetensors into a temporary folder (TMPDIR says where; 13 GB for 7b). The start is made in a process of
its own, whose memory then is that of the start alone.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import peak_resident
from safetensors.torch import save_file

from pissa_repro.starts import make
from pissa_repro.starts.facts import summary

SHAPES = {  # layers, hidden size, width of the MLP, vocabulary
    "7b": (32, 4096, 11008, 32000),
    "tiny": (2, 128, 192, 256),  # for the tests
}
DEVIATION = 0.017  # of the bulk's entries; the power law is added as in init_contenders.py
DIRECTIONS = 256
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def bench(kind: str, layers: int | None, rank: int, device: str) -> dict[str, Any]:
    """Write the model, make its start in a fresh process; the line of the results. Prints it in words."""
    with tempfile.TemporaryDirectory() as folder:
        layers = layers or SHAPES[kind][0]
        write(Path(folder), kind, layers, device)
        found = _apart(folder, [rank], device)
        again = _apart(folder, [rank], device)  # as the sweep, with the files in the page cache
        sweep = _apart(folder, [1 << i for i in range(rank.bit_length())], device)
    found["rank_sweep_ratio"] = sweep["seconds_median"] / again["seconds_median"]
    line = {"name": "whole-model", "device": device, "shape": kind, "layers": layers, "rank": rank, **found}
    gpu = "" if found["gpu_memory_bytes"] is None else f", {found['gpu_memory_bytes'] / 2**30:.2f} GiB on the GPU"
    print(
        f"whole model, {kind}, {found['matrices']} matrices: {found['seconds_median']:.1f} s, "
        f"{found['memory_bytes'] / 2**30:.2f} GiB beyond the imports{gpu}; "
        f"{found['bytes'] / 1e9:.2f} GB of weights, worst excess (estimate) {found['frobenius_excess']:.1e}; "
        f"all ranks 1, 2, 4, ... {rank} take {found['rank_sweep_ratio']:.2f} of the time of one (limit 1.3)"
    )
    return line


def write(folder: Path, kind: str, layers: int, device: str) -> None:
    """A model folder with one shard a layer, none of it left in the page cache."""
    _, hidden, wide, vocabulary = SHAPES[kind]
    square = {f"self_attn.{name}": (hidden, hidden) for name in TARGETS[:4]}
    mlp = {"mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden), "mlp.down_proj": (hidden, wide)}
    generator, index = torch.Generator(device).manual_seed(0), {}
    ends = {"model.embed_tokens": (vocabulary, hidden), "lm_head": (vocabulary, hidden)}
    shards = [{f"model.layers.{i}.{name}": shape for name, shape in (square | mlp).items()} for i in range(layers)]
    for number, shard in enumerate([*shards, ends]):
        path = folder / f"model-{number + 1:05d}-of-{layers + 1:05d}.safetensors"
        save_file({f"{name}.weight": _weight(shape, generator) for name, shape in shard.items()}, path)
        index |= {f"{name}.weight": path.name for name in shard}
        _forget(path)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index}), encoding="utf-8"
    )
    (folder / "config.json").write_text(
        json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}), encoding="utf-8"
    )


def _weight(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    def random(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, device=generator.device)

    m, n = shape
    law = 10 * torch.arange(1, DIRECTIONS + 1, device=generator.device) ** -0.6
    directions = (random(m, DIRECTIONS) / m**0.5 * law) @ (random(DIRECTIONS, n) / n**0.5)
    return (DEVIATION * (random(m, n) + min(m, n) ** 0.5 * directions)).bfloat16().cpu()


def _forget(path: Path) -> None:
    """Write the file out and drop it from the page cache, so that reading it reads the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _apart(folder: str, ranks: list[int], device: str) -> dict[str, Any]:
    unseen = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    command = [sys.executable, __file__, "--model", folder, "--ranks", *ranks, "--threads", torch.get_num_threads()]
    found = subprocess.run(
        [str(part) for part in command], check=True, stdout=subprocess.PIPE, encoding="utf-8", env=os.environ | unseen
    )
    return json.loads(found.stdout)


def start(folder: str, ranks: list[int]) -> dict[str, Any]:
    """What start_model takes, in this process."""
    same = {"method": "pissa", "options": {"svd": "fast"}, "quant": "none", "rslora": False, "seed": 0}
    specs = [same | {"rank": rank, "alpha": float(rank), "target_modules": TARGETS} for rank in ranks]
    if torch.cuda.is_available():
        torch.zeros(1).cuda()  # the context is not the start's memory
    memory, disk, started = peak_resident(), _read_bytes(), time.perf_counter()
    *_, (_, facts) = make.start_model(folder, specs)
    seconds = time.perf_counter() - started
    return {
        **{f"seconds_{key}": seconds for key in ("median", "min", "max")},
        "frobenius_excess": summary(facts)["excess"],
        "error_reduction": None,
        "runs": 1,
        "matrices": len(facts),
        "memory_bytes": peak_resident() - memory,
        "gpu_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        "bytes": _weight_bytes(folder),
        "disk_bytes": None if disk is None else _read_bytes() - disk,
    }


def _read_bytes() -> int | None:
    """Bytes that came from the disk so far; None where the system does not say."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def _weight_bytes(folder: str) -> int:
    """Of the target modules, as stored: two for each number."""
    return sum(2 * shape[0] * shape[1] for shape in make.checkpoint.shapes(folder, TARGETS).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--ranks", type=int, nargs="+", required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(json.dumps(start(args.model, args.ranks)))


if __name__ == "__main__":
    main()
