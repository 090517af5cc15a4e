"""Convert and merge adapters of a model of LLaMA-7B's shapes: this project's commands beside PEFT, whole processes.

python benchmarks/adapters.py --layers 4 --rank 128 --pairs 3

writes a model of random bfloat16 weights, and a start and a trained adapter of random factors (float32), into a
temporary folder (TMPDIR says where; about 7 GB for four layers). The contenders take turns, each in a process of its
own whose seconds and largest resident memory count, imports included. convert: beside PEFT's save_pretrained with
path_initial_model_for_weight_conversion. merge: `pissa export --as merged --no-check` of that cell, beside PEFT's
merge_and_unload and save_pretrained of its plain LoRA.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, ROOT, keep, peak_resident
from init_model import SHAPES, TARGETS, write

from pissa_repro.adapters import convert, export, exportable
from pissa_repro.adapters.cells import StoredCell
from pissa_repro.model import checkpoint, factors, keys
from pissa_repro.runtime.record_types import ModelRecord

CONTENDERS = ("convert", "merge", "peft-convert", "peft-merge")
FINGERPRINT = "0" * 64  # of the random model, which no record holds
INIT, TRAINED, RAW, LORA = "init", "trained", "raw", "lora"


def prepare(work: Path, kind: str, layers: int, rank: int) -> None:
    """The model, a start and a trained cell of it, and both adapters as PEFT writes them."""
    _, hidden, wide, vocabulary = SHAPES[kind]
    (work / "model").mkdir()
    write(work / "model", kind, layers, "cpu")
    config = work / "model" / "config.json"
    sizes = {"hidden_size": hidden, "intermediate_size": wide, "num_hidden_layers": layers, "vocab_size": vocabulary}
    heads = {"num_attention_heads": hidden // 64, "num_key_value_heads": hidden // 64, "tie_word_embeddings": False}
    config.write_text(
        json.dumps(json.loads(config.read_text(encoding="utf-8")) | sizes | heads | {"dtype": "bfloat16"}),
        encoding="utf-8",
    )
    _norms(work / "model", layers, hidden)
    generator, a, b = torch.Generator().manual_seed(0), {}, {}
    for name, (out, into) in checkpoint.shapes(work / "model", TARGETS).items():
        a[name] = 0.02 * torch.randn(rank, into, generator=generator)
        b[name] = 0.02 * torch.randn(out, rank, generator=generator)
    start = factors.Factors(a, b, "start", rank, float(rank), False)
    base = {key: _model(work)[key] for key in ("name", "commit", "fingerprint")}
    factors.save(work / "start", start, base, "pissa", "none")
    tensors = {
        f"{keys.PREFIX}{name}.lora_{side}.weight": 1.01 * tensor
        for side, tensors in (("A", a), ("B", b))
        for name, tensor in tensors.items()
    }
    factors.save_trained(work / TRAINED / factors.TRAINED, tensors, factors.lora_fields(start), work / "start")
    export.export(exportable.Asked(_cell(work), "peft-init", work / INIT, check=False))
    export.export(exportable.Asked(_cell(work), "lora", work / LORA, check=False))
    export.write_raw(_cell(work), work / RAW)


def _norms(folder: Path, layers: int, hidden: int) -> None:
    """The vectors that a whole Llama has beside its matrices, in a shard of their own."""
    from safetensors.torch import save_file

    names = ["model.norm"] + [
        f"model.layers.{i}.{name}_layernorm" for i in range(layers) for name in ("input", "post_attention")
    ]
    tensors = {f"{name}.weight": torch.ones(hidden, dtype=torch.bfloat16) for name in names}
    save_file(tensors, folder / "norms.safetensors", {"format": "pt"})
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    index["weight_map"] |= dict.fromkeys(tensors, "norms.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _model(work: Path) -> ModelRecord:
    return {"path": str(work / "model"), "name": "random", "commit": None, "fingerprint": FINGERPRINT}


def _cell(work: Path) -> StoredCell:
    """The cell as far as an export reads it."""
    spec = {"method": "pissa", "quant": "none", "init": {"method": "pissa"}, "settings": {"dtype": "float32"}}
    record: Any = {"spec": spec}
    return StoredCell(work, record, work / "start", _model(work), "random")


def run(contender: str, work: Path) -> None:
    """One contender's work, into work/out."""
    out = work / "out"
    if contender == "convert":
        convert.convert(convert.Asked(work / RAW, work / INIT, out))
    elif contender == "merge":
        export.export(exportable.Asked(_cell(work), "merged", out, check=False))
    else:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(work / "model", dtype="auto")
        if contender == "peft-convert":
            wrapped = PeftModel.from_pretrained(base, str(work / RAW))
            wrapped.peft_config["default"].init_lora_weights = "pissa"  # what it subtracts
            wrapped.save_pretrained(str(out), path_initial_model_for_weight_conversion=str(work / INIT))
        else:
            PeftModel.from_pretrained(base, str(work / LORA)).merge_and_unload().save_pretrained(str(out))


def timed(contender: str, work: Path) -> dict[str, float]:
    """Seconds and largest memory of a contender in a process of its own, its output deleted."""
    shutil.rmtree(work / "out", ignore_errors=True)
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, "--run", contender, "--work", str(work)], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{contender} ended with {process.returncode}")
    return {
        "seconds": seconds,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": int((work / "memory").read_text(encoding="utf-8")),
    }


def bench(work: Path, pairs: int) -> Iterator[dict[str, Any]]:
    """A line for each kind of work: both contenders' runs, and PEFT's by ours, pair by pair."""
    for kind in ("convert", "merge"):
        runs = [{name: timed(name, work) for name in (kind, f"peft-{kind}")} for _ in range(pairs)]
        line: dict[str, Any] = {"name": kind, "pairs": pairs}
        for key in ("seconds", "cpu", "memory"):
            ratios = [one[f"peft-{kind}"][key] / one[kind][key] for one in runs]
            line[key] = {"ours": [one[kind][key] for one in runs], "peft": [one[f"peft-{kind}"][key] for one in runs]}
            line[f"{key}_ratio"] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
        yield line


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="7b", choices=SHAPES, help="of the model")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of adapters.jsonl")
    parser.add_argument("--run", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.run:
        run(args.run, args.work)
        (args.work / "memory").write_text(str(peak_resident()), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), args.shapes, args.layers, args.rank)
        for line in bench(Path(folder), args.pairs):
            keep("adapters", {"shape": args.shapes, "layers": args.layers, "rank": args.rank, **line}, args.out)
            of = {key: line[f"{key}_ratio"] for key in ("seconds", "cpu", "memory")}
            print(
                f"{line['name']}: PEFT by ours, median (range): "
                + ", ".join(f"{k} {v['median']:.2f} ({v['min']:.2f} to {v['max']:.2f})" for k, v in of.items())
            )


if __name__ == "__main__":
    main()
