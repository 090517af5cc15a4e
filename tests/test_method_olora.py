"""OLoRA: the first columns and rows of a QR decomposition."""

import torch
from starting import decaying, spec_of, start_of

RANK = 6


def start(quant, weight, alpha=RANK, **options):
    return start_of("layers.0.q_proj", weight, spec_of("olora", quant, RANK, alpha, **options))[0]


def test_b_is_orthonormal_and_spans_the_first_columns():
    weight = decaying(48, 96)
    made = start("none", weight)
    assert torch.allclose(made.B.T @ made.B, torch.eye(RANK), atol=1e-5)
    assert torch.allclose(made.B @ made.A[:, :RANK], weight[:, :RANK], atol=1e-5)
    assert torch.allclose(made.A, made.B.T @ weight, atol=1e-5)


def test_a_is_upper_triangular():
    made = start("none", decaying(48, 96))
    assert torch.allclose(made.A[:, :RANK], made.A[:, :RANK].triu(), atol=1e-6)
