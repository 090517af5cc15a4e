"""What is compared and recorded of a model: logits and dtypes."""

import torch


@torch.no_grad()
def logits(model: torch.nn.Module, prompts: list[list[int]]) -> torch.Tensor:
    """Logits (n, vocabulary) float32 on the CPU after each of n prompts (lists of token ids)."""
    rows = [model(input_ids=torch.tensor([ids], device=model.device)).logits[0, -1] for ids in prompts]
    return torch.stack(rows).float().cpu()


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """|found - expected| / |expected| (Frobenius)."""
    return ((found - expected).norm() / expected.norm()).item()


def dtypes(model: torch.nn.Module) -> dict[str, list[str]]:
    """The dtypes of the trained and of the frozen parameters, for the record."""
    found: dict[str, set[str]] = {"trained": set(), "frozen": set()}
    for parameter in model.parameters():
        found["trained" if parameter.requires_grad else "frozen"].add(str(parameter.dtype).removeprefix("torch."))
    return {key: sorted(value) for key, value in found.items()}
