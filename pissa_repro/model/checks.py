"""What is compared and recorded of a model: logits and dtypes."""

import torch

from pissa_repro.model.architecture import SEQ2SEQ, architecture, start_token


@torch.no_grad()
def logits(model: torch.nn.Module, prompts: list[list[int]]) -> torch.Tensor:
    """Logits (n, vocabulary) float32 on the CPU after each of n prompts (lists of token ids); of classes (n, classes).

    An encoder-decoder reads each prompt and has written it, but for its last token, behind the token that it begins
    with: after the first token alone, its decoder's attention to itself would not show.
    """
    device = next(model.parameters()).device
    rows = [model(**_inputs(model, torch.tensor([ids], device=device))).logits[0] for ids in prompts]
    return torch.stack([row if row.ndim == 1 else row[-1] for row in rows]).float().cpu()


def _inputs(model: torch.nn.Module, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    config = getattr(model, "config", None)
    if architecture(config) is not SEQ2SEQ:
        return {"input_ids": ids}
    start = torch.full_like(ids[:, :1], start_token(config))  # type: ignore[arg-type]
    return {"input_ids": ids, "decoder_input_ids": torch.cat((start, ids[:, :-1]), 1)}


def relative_difference(values: torch.Tensor, expected: torch.Tensor) -> float:
    """|values - expected| / |expected| (Frobenius)."""
    return ((values - expected).norm() / expected.norm()).item()


def dtypes(model: torch.nn.Module) -> dict[str, list[str]]:
    """The dtypes of the trained and of the frozen parameters, for the record."""
    kinds: dict[str, set[str]] = {"trained": set(), "frozen": set()}
    for parameter in model.parameters():
        kinds["trained" if parameter.requires_grad else "frozen"].add(str(parameter.dtype).removeprefix("torch."))
    return {key: sorted(value) for key, value in kinds.items()}
