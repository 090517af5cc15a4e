"""GPTQ (arXiv 2210.17323): a matrix to few bits and back, weighted by what its layer sees.

Needs the extra `gptq`. The algorithm is Intel Neural Compressor's, called on one matrix at a time, so that W
and the residual W - s * offset go through the same call (paper_facts.md 1.8). The grid is that of the GPTQ
paper: integers from the least to the largest value of a group of columns in a row, no activation order.

Perplexity needs no code here: lm-eval's HFLM.loglikelihood_rolling gives the log-likelihood of a text.
"""

import logging
from typing import Any

import torch

from pissa_repro.runtime.errors import UserError

DAMP = 0.01  # added to H's diagonal, as a share of its mean: GPTQ, section 4, step 3
COLUMNS = 128  # rounded together before the columns to their right are corrected (GPTQ, section 4, step 2)
# The library's symmetric grid cuts off a group without negative values (3.10, Quantizer.find_params).
GRID = {
    "dtype": "int",
    "sym": False,
    "perchannel": True,
    "mse": False,
    "use_double_quant": False,
    "double_quant_sym": False,
}


def _library() -> Any:
    """Neural Compressor's GPTQ of one matrix. It logs two lines per matrix unless told not to."""
    try:
        from neural_compressor.torch.algorithms.weight_only.gptq import GPTQ
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("neural_compressor", "cpuinfo", "prettytable"):
            raise
        raise UserError(f'quant gptq: no module {error.name}. pip install "pissa-repro[gptq]"') from None
    logging.getLogger("neural_compressor").setLevel(logging.WARNING)
    return GPTQ


def roundtrip(weight: torch.Tensor, hessian: torch.Tensor, group_size: int = 128, bits: int = 4) -> torch.Tensor:
    """The float32 matrix (out, in) that GPTQ makes of a float32 matrix (out, in); neither argument is changed.

    hessian: X^T X of the layer's inputs, float32 (in, in), on the weight's device; its scale does not matter.
    The last group of a row may be shorter. Columns whose input was always zero become zero.
    Raises UserError when the library is missing, when shapes do not fit, and for a Hessian that is not finite
    or not positive definite.
    """
    rows, columns = weight.shape
    if hessian.shape != (columns, columns):
        raise UserError(f"quant gptq: a Hessian {tuple(hessian.shape)} for a weight {(rows, columns)}.")
    linear = torch.nn.Linear(columns, rows, bias=False, device="meta")  # only its type is looked at
    work = _library()(linear, weight, device=weight.device)
    work.quantizer.configure(GRID | {"bits": bits})
    work.H = hessian.clone()
    try:
        *_, quantized = work.fasterquant(weight.clone(), blocksize=COLUMNS, percdamp=DAMP, groupsize=group_size)
    except torch.linalg.LinAlgError:
        quantized = None
    if quantized is None or not quantized.isfinite().all():
        raise UserError("quant gptq: the Hessian is not finite or not positive definite: more calibration rows?")
    return quantized
