"""OLoRA (arXiv 2406.01775): B and A are the first r columns and rows of W = QR."""

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY, QUANTIZED_DISPLAY = "OLoRA", "QOLoRA"
RANDOM = False
TAKES = "the first r columns and rows of the QR decomposition of W"
LOOK = 6
IGNORES_SCALING = True


def start(weight: Matrix, setting: Setting) -> Start:
    """B = Q[:, :r], A = R[:r]; the base is W - sBA (the same as PEFT's `olora`): s times the columns and rows leave."""
    import torch

    q, r = torch.linalg.qr(weight)
    return Start(A=r[: setting.rank].clone(), B=q[:, : setting.rank].clone(), offset="start")
