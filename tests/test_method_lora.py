"""LoRA: a random A, a zero B, and W as it is."""

import pytest
from starting import decaying, spec_of, start_of

from pissa_repro import quantizers

RANK = 6


def start(quant, weight, alpha=RANK, **options):
    return start_of("layers.0.q_proj", weight, spec_of("lora", quant, RANK, alpha, **options))[0]


def test_it_is_kaiming_uniform_and_starts_at_zero():
    made = start("none", decaying(48, 10_000))
    bound = 10_000**-0.5
    assert made.B.count_nonzero() == 0 and made.offset is None
    assert made.A.abs().max() <= bound
    assert made.A.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)


@pytest.mark.parametrize("quant", quantizers.names())
def test_its_base_is_the_weight_quantized_as_it_is(quant):
    """QLoRA; the error that others are compared with."""
    made = start(quant, decaying(64, 96))
    assert made.taken is None and made.B.count_nonzero() == 0
