"""The same code on a CUDA device; skips itself where there is none."""

import subprocess
import sys

import pytest
from helpers import Run, trained_and_scored
from stage import init_spec
from starting import alternating, made_of

from pissa_repro import methods
from pissa_repro.embedded import problems
from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.record import canonical, write_lines
from pissa_repro.scoring import generations
from pissa_repro.scoring.engines import BACKENDS, installed
from pissa_repro.sources.fetched import EMBEDDED
from pissa_repro.sources.rows import select

pytestmark = pytest.mark.gpu


@pytest.fixture
def cuda():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch


@pytest.mark.parametrize(
    ("method", "quant"), [("lora", "none"), ("pissa", "none"), ("pissa", "nf4"), ("loftq", "nf4"), ("olora", "none")]
)
def test_factors_equal_those_of_the_cpu(cuda, tiny_model, monkeypatch, method, quant):
    """To 1e-3 of the product's norm; to 1e-2 where the start alternates: each alternation decomposes what quantization
    left of the one before, and single 4-bit codes flip with the rounding of another device (1.7e-3 on an H100)."""
    alternates = alternating(method, quant, 2)
    spec = init_spec(method=method, quant=quant, options=methods.options(method, quant, alternates, "here"))
    made = made_of(tiny_model, spec)
    monkeypatch.setattr(cuda.cuda, "is_available", lambda: False)
    expected = made_of(tiny_model, spec)
    for name in made.A:
        product, wanted = made.B[name] @ made.A[name], expected.B[name] @ expected.A[name]
        assert not methods.load(method).RANDOM or cuda.equal(made.A[name], expected.A[name])
        assert (product - wanted).norm() <= (1e-2 if alternates else 1e-3) * wanted.norm()


@pytest.mark.parametrize("quant", ["nf4", "nf4-b128", "nf4-dq", "fp4"])
def test_the_base_is_the_same_bits_packed_and_unpacked(cuda, quant):
    from bitsandbytes.functional import dequantize_4bit

    from pissa_repro import quantizers

    weight = cuda.randn(128, 256, device="cuda")
    linear = cuda.nn.Linear(256, 128, bias=False, device="cuda")
    packed = quantizers.packed(linear, weight, quant, cuda.float32)
    assert packed.weight.is_cuda
    found = dequantize_4bit(packed.weight.data, packed.weight.quant_state)
    assert cuda.equal(found, quantizers.base_weight(weight, None, quant))


def test_every_base_is_that_of_the_cpu_but_for_ties(cuda):
    """A value halfway between two may go the other way with the rounding of another device; hardly any does."""
    from pissa_repro import quantizers

    weight = cuda.randn(611, 301, generator=cuda.Generator().manual_seed(0)) / 50
    for quant in quantizers.names():
        found = quantizers.roundtrip(weight.cuda(), quant)
        assert found.is_cuda and found.dtype == cuda.float32
        assert cuda.equal(found, quantizers.roundtrip(weight.cuda(), quant, spare=True)), quant
        different = (found.cpu() - quantizers.roundtrip(weight, quant)).abs() > 1e-6
        assert different.float().mean() < 1e-3, quant


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_qpissa_trains_and_is_scored(cuda, tiny_model, tiny_rows, tmp_path, dtype):
    """As on the CPU (test_evaluate.py)."""
    record, score = trained_and_scored(Run(tmp_path, tiny_model, tiny_rows, "pissa", "nf4", dtype=dtype))
    assert record["dtypes"]["trained"] == ["float32"] and "uint8" in record["dtypes"]["frozen"]
    assert record["provenance"]["gpu_memory_bytes"] > 0
    assert score["metrics"]["paper"]["n"] == 3 and score["checks"]["training_effect"] > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_vllm_on_a_card_generates_what_hf_does(cuda, tmp_path, dtype):
    """One cell by both back-ends, in processes of their own; rounding may part texts, other weights would part most."""
    if installed() != "vllm":
        pytest.skip("vLLM for GPUs is not installed (extra `vllm`)")
    fields = {"prompt": "question", "response": "answer"}
    train = select(problems.generate("train", 64), {"fields": fields, "response_format": "gsm8k"}, "test")
    write_lines(tmp_path / "train.jsonl", train)
    cell = Run(tmp_path, EMBEDDED, tmp_path / "train.jsonl", "pissa", rank=16, steps=8, max_new_tokens=40)
    cell.init()
    cell.train()
    cell.rows = tmp_path / "test.jsonl"
    write_lines(cell.rows, select(problems.generate("test", 32), {"fields": fields}, "test"))
    found = {}
    for backend in BACKENDS:
        spec = cell.sweep.evaluate_spec(cell.cell, "task")
        spec["generate"] |= {"backend": backend, "dtype": dtype}
        cell.generated = tmp_path / f"{backend}.jsonl"
        argv = [canonical(spec) if n == 1 else word for n, word in enumerate(cell.evaluate_argv("--gpus", "1"))]
        done = subprocess.run(
            [sys.executable, "-m", "pissa_repro.stages.evaluate", *argv], cwd=ROOT, capture_output=True
        )
        assert done.returncode == 0, done.stderr[-3000:].decode()
        found[backend] = generations.read(cell.generated).turns
    assert sum(found["hf"][i] == found["vllm"][i] for i in found["hf"]) >= 24
