"""What layers see of a calibration text: the Hessians that GPTQ (linalg/gptq.py) weights errors with."""

from collections.abc import Iterable, Sequence

import torch

from pissa_repro.model import load, tokens
from pissa_repro.model.architecture import CAUSAL, architecture
from pissa_repro.model.skeleton import own_config
from pissa_repro.model.statistics import Row, measure
from pissa_repro.runtime.errors import UserError


def hessians(
    folder: str, rows: Iterable[dict[str, str]], modules: Sequence[str], window: int = 2048
) -> dict[str, torch.Tensor]:
    """X^T X, float32 (in, in) on this process's device, of each module's inputs X over all tokens of the rows.

    The untouched float32 model in `folder` sees each row once: prompt + response, cut to `window` tokens.
    Every module's inputs come from the unquantized model, also below other modules. (The GPTQ paper
    quantizes layer by layer and lets a layer see what the ones before it became.)
    Memory: as model/statistics.py, and 4 * in^2 bytes per module (LLaMA-3-8B: 1.2 GB a layer, 39 GB
    in all). Give a few layers' modules at a time to bound it, at the price of one pass each.
    Raises UserError for a module that the model lacks or does not reach, when there are no rows, and for an
    encoder-decoder.
    """
    if architecture(own_config(folder)) is not CAUSAL:
        raise UserError(f"{folder}: GPTQ is measured on causal language models only, not on encoder-decoders.")
    model, tokenizer, device = (
        load.load_base(folder, device="cpu"),
        tokens.load_tokenizer(folder),
        load.default_device(),
    )
    window = min(window, load.window(model.config, window))
    cut = [ids[:window] for ids in tokens.prompt_ids(tokenizer, [row["prompt"] + row["response"] for row in rows])]
    seen = [Row({"input_ids": (given := torch.tensor([ids]))}, given) for ids in cut if ids]
    found = measure(model, seen, modules, "covariance", device)
    return {name: one.value.to(device) * one.tokens for name, one in found}
