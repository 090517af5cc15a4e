"""What layers see of a calibration text: the Hessians that GPTQ (linalg/gptq.py) weights errors with."""

from collections.abc import Callable, Iterable, Sequence

import torch

from pissa_repro.runtime.errors import UserError

Hook = Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]


@torch.no_grad()
def hessians(
    folder: str, rows: Iterable[dict[str, str]], modules: Sequence[str], window: int = 2048
) -> dict[str, torch.Tensor]:
    """X^T X, float32 (in, in) on the model's device, of each module's inputs X over all tokens of the rows.

    The untouched float32 model in `folder` sees each row once: prompt + response, cut to `window` tokens.
    Every module's inputs come from the unquantized model, also below other modules. (The GPTQ paper
    quantizes layer by layer and lets a layer see what the ones before it became.)
    Memory: the model, one row's activations, and 4 * in^2 bytes per module (LLaMA-3-8B: 1.2 GB a layer, 39 GB
    in all). Give a few layers' modules at a time to bound it, at the price of one pass each.
    Raises UserError for a module that the model lacks or does not reach, when there are no rows, and for an
    encoder-decoder.
    """
    from pissa_repro.model import load, tokens
    from pissa_repro.model.architecture import CAUSAL, architecture
    from pissa_repro.model.base import module_name
    from pissa_repro.model.skeleton import own_config

    if architecture(own_config(folder)) is not CAUSAL:
        raise UserError(f"{folder}: GPTQ is measured on causal language models only, not on encoder-decoders.")
    model, tokenizer = load.load_base(folder).eval(), tokens.load_tokenizer(folder)
    sums: dict[str, torch.Tensor] = {}
    for name in modules:
        model.get_submodule(module_name(model, name)).register_forward_pre_hook(_adds_to(sums, name))
    window = min(window, load.window(model.config, window))
    for row in rows:
        ids = tokens.prompt_ids(tokenizer, [row["prompt"] + row["response"]])[0][:window]
        if ids:
            model(input_ids=torch.tensor([ids], device=next(model.parameters()).device), use_cache=False)
    for name in modules:
        if name not in sums:
            raise UserError(f"{folder}: no calibration row reached {name}.")
    return sums


def _adds_to(sums: dict[str, torch.Tensor], name: str) -> Hook:
    """A hook that adds X^T X of the inputs (..., in) of a module to sums[name]."""

    def add(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0].reshape(-1, inputs[0].shape[-1]).float()
        if name not in sums:
            sums[name] = torch.zeros(x.shape[1], x.shape[1], device=x.device)
        sums[name].addmm_(x.T, x)

    return add
