"""What a method's file says of itself, in words: for its page in the docs and for `pissa methods NAME`.

What its start looks like is not asked of the file: one is made, of a small random weight.
"""

import re
from typing import Any

from pissa_repro import methods, quantizers
from pissa_repro.methods import Method, Training

SHAPE, RANK, TOKENS = (24, 18), 4, 100  # of the small weight (out, in); its inputs, for methods that see data
LARGE, LARGE_RANK = (4096, 4096), 128  # an attention projection of LLaMA-2-7B, and the rank of most of the paper


def paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a docstring, each on one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", (text or "").strip())]


def papers(method: Method) -> list[str]:
    """The numbers of the arXiv papers that the file's docstring names, in its order."""
    return list(dict.fromkeys(re.findall(r"\b\d{4}\.\d{5}\b", method.__doc__ or "")))


def facts(name: str) -> dict[str, str]:
    """What is so of a method, by what it is about. Raises UserError for a method that there is not."""
    method = methods.load(name, "methods")
    return {
        "in tables": f"{method.DISPLAY}; on a quantized base {method.QUANTIZED_DISPLAY}",
        **(_parts(name, method) if method.FACTORS else {"trains": "every weight"}),
        "random": "yes, by the seed" if method.RANDOM else "no: all seeds share one start",
        "sees data": _statistics(method),
        **_if_said(name, method),
        "refuses": _refusals(name),
    }


def options(name: str) -> list[tuple[str, str, str]]:
    """The options of a method: name, default with the words that it may be, and where it acts."""
    method = methods.load(name, "methods")
    kinds = {
        "the start": method.OPTIONS,
        "the start on a quantized base": method.QUANTIZED_OPTIONS,
        "the training": method.TRAINING_OPTIONS,
    }
    return [
        (key, _default(value, method.CHOICES.get(key, ())), kind)
        for kind, values in kinds.items()
        for key, value in values.items()
    ]


def hooks(method: Method) -> list[str]:
    """The hooks of `methods.Training` that the file fills, in the order of the contract."""
    return [name for name in vars(Training) if not name.startswith("_") and _filled(method.TRAINING, name)]


def _filled(training: type[Training], name: str) -> bool:
    return getattr(training, name) is not getattr(Training, name)


def _default(value: Any, choices: tuple[str, ...]) -> str:
    said = str(value).lower() if isinstance(value, bool) else str(value)
    return f"{said} (of {', '.join(choices)})" if choices else said


def _parts(name: str, method: Method) -> dict[str, str]:
    """What the start is made of and what of it trains, from the start of a small weight."""
    quant = next(quant for quant in quantizers.names() if not method.refuse(quant))
    start = _small(name, quant)
    parts = {part: getattr(start, part) for part in methods.PARTS if getattr(start, part) is not None}
    shapes = ", ".join(f"{part} {tuple(tensor.shape)}" for part, tensor in parts.items())
    masked = f"; {int(start.free.sum())} of the core's {start.free.numel()} entries" if start.free is not None else ""
    given = methods.options(name, quant, {}, name)
    count, whole = method.entries(*LARGE, LARGE_RANK, given), LARGE[0] * LARGE[1]
    return {
        "parts": f"{shapes}, of a weight {SHAPE} at rank {RANK}",
        "trains": ", ".join(start.trains) + masked,
        "entries that can change": f"{count:,} of the {whole:,} of a weight {LARGE} at rank {LARGE_RANK}",
    }


def _small(name: str, quant: str) -> methods.Start:
    import torch

    from pissa_repro.starts.make import spectrum, start_module

    drawn = torch.Generator().manual_seed(0)
    weight, gradient = torch.randn(2, *SHAPE, generator=drawn)
    inputs = torch.randn(TOKENS, SHAPE[1], generator=drawn)
    known = {
        "gradient": gradient, "covariance": inputs.mT @ inputs / TOKENS, "magnitude": inputs.abs().mean(0)
    }  # fmt: skip
    applicable = methods.options(name, quant, {}, name)
    start, _ = start_module(
        "weight",
        spectrum("weight", weight),
        {
            "method": name,
            "options": applicable,
            "quant": quant,
            "rank": RANK,
            "alpha": RANK,
            "rslora": False,
            "seed": 0,
        },
        known,
    )
    return start


def _statistics(method: Method) -> str:
    said = [f"the {kind} over {values['rows']} rows" for kind, values in method.STATISTICS.items()]
    return ", ".join(said) or "no"


def _if_said(name: str, method: Method) -> dict[str, str]:
    """What only some files say."""
    filled = ", ".join(hooks(method))
    said = {
        "the base is left without": method.TAKES,
        "the start is not W": method.MOVES,
        "scaling": "the start depends on it" if method.IGNORES_SCALING else None,
        "ranks": "a module may have one of its own" if methods.redistributes(name) else None,
        "adds to training": filled or None,
        "reference": "tables compare the others with it" if method.REFERENCE else None,
    }
    return {key: text for key, text in said.items() if text}


def _refusals(name: str) -> str:
    """Every reason that the method has, with the quantizations that it holds for."""
    by_reason: dict[str, list[str]] = {}
    for quant in quantizers.names():
        if reason := methods.refusal(name, quant):
            by_reason.setdefault(reason, []).append(quant)
    return "; ".join(f"{_bases(quants)}: {reason}" for reason, quants in by_reason.items()) or "no quantization"


def _bases(quants: list[str]) -> str:
    if quants == ["none"]:
        return "a plain base"
    return "every quantized base" if {"none", *quants} == set(quantizers.names()) else ", ".join(quants)
