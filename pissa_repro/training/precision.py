"""How exactly float32 matrices are multiplied while a cell trains (`train.tf32`)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.specs import TrainSettings


@contextmanager
def products(settings: TrainSettings) -> Iterator[None]:
    """With `tf32`, products of float32 matrices take 10 bits of each number's 23, on the tensor cores of a card.

    What is measured before and after the training is not touched. Raises UserError without a card that has them.
    """
    if not settings.get("tf32"):
        yield
        return
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        raise UserError("config.train.tf32: true needs an Ampere card or a newer one. Set it to false.")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
