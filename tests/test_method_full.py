"""Full fine-tuning: no factors, and no quantized base."""

from pissa_repro import methods, quantizers


def test_it_trains_every_weight():
    assert not methods.has_factors("full")


def test_every_quantization_is_refused():
    assert [quant for quant in quantizers.names() if not methods.refusal("full", quant)] == ["none"]
