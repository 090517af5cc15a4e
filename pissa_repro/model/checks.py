"""What is compared and recorded of a model: logits and dtypes."""

import torch


@torch.no_grad()
def logits(model: torch.nn.Module, prompts: list[list[int]]) -> torch.Tensor:
    """Logits (n, vocabulary) float32 on the CPU after each of n prompts (lists of token ids)."""
    device = next(model.parameters()).device
    rows = [model(input_ids=torch.tensor([ids], device=device)).logits[0, -1] for ids in prompts]
    return torch.stack(rows).float().cpu()


def relative_difference(values: torch.Tensor, expected: torch.Tensor) -> float:
    """|values - expected| / |expected| (Frobenius)."""
    return ((values - expected).norm() / expected.norm()).item()


def dtypes(model: torch.nn.Module) -> dict[str, list[str]]:
    """The dtypes of the trained and of the frozen parameters, for the record."""
    kinds: dict[str, set[str]] = {"trained": set(), "frozen": set()}
    for parameter in model.parameters():
        kinds["trained" if parameter.requires_grad else "frozen"].add(str(parameter.dtype).removeprefix("torch."))
    return {key: sorted(value) for key, value in kinds.items()}
