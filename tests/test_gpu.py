"""The same code on a CUDA device; skips itself where there is none."""

import pytest
from helpers import Run, made_of, scored_rows
from stage import init_spec

from pissa_repro import methods

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
    given = {"alternations": 2} if quant != "none" else {}
    spec = init_spec(method=method, quant=quant, options=methods.options(method, quant, given, "here"))
    made = made_of(tiny_model, spec)
    monkeypatch.setattr(cuda.cuda, "is_available", lambda: False)
    expected = made_of(tiny_model, spec)
    for name in made.A:
        product, wanted = made.B[name] @ made.A[name], expected.B[name] @ expected.A[name]
        assert method != "lora" or cuda.equal(made.A[name], expected.A[name])
        assert (product - wanted).norm() <= 1e-3 * wanted.norm()


@pytest.mark.parametrize("quant", ["nf4", "nf4-b128", "nf4-dq", "fp4"])
def test_the_base_is_the_same_bits_packed_and_unpacked(cuda, quant):
    from bitsandbytes.functional import dequantize_4bit

    from pissa_repro import quantize

    weight = cuda.randn(128, 256, device="cuda")
    linear = cuda.nn.Linear(256, 128, bias=False, device="cuda")
    packed = quantize.linear4bit(linear, weight, quant, cuda.float32)
    assert packed.weight.is_cuda
    found = dequantize_4bit(packed.weight.data, packed.weight.quant_state)
    assert cuda.equal(found, quantize.base_weight(weight, None, quant))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_qpissa_trains_and_is_scored(cuda, tiny_model, tmp_path, dtype):
    run = Run(tmp_path, tiny_model, scored_rows(tmp_path), "pissa", "nf4", dtype=dtype)
    run.init()
    record = run.train()
    assert record["dtypes"]["trained"] == ["float32"] and "uint8" in record["dtypes"]["frozen"]
    assert record["provenance"]["gpu_memory_bytes"] > 0
    assert run.evaluate()["metrics"]["paper"]["n"] == 3
