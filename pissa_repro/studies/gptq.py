"""GPTQ of W (QLoRA) against GPTQ of PiSSA's residual (QPiSSA): the third row of the paper's Table 9.

Memory: two float32 models, and the Hessians of as many modules as fit LIMIT; each further group of
modules costs one more pass.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from pissa_repro.linalg import gptq
from pissa_repro.model import calibration, checkpoint
from pissa_repro.model.base import set_weight
from pissa_repro.model.load import load_base, window
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.runtime.progress import track
from pissa_repro.runtime.study_specs import GptqSpec
from pissa_repro.starts.error import error
from pissa_repro.starts.kept import Kept
from pissa_repro.starts.make import check_ranks, spectrum
from pissa_repro.studies.spectra import residual

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LIMIT = 16 * 2**30  # bytes of Hessians at once
VARIANTS = ("qlora", "qpissa")


def groups(shapes: dict[str, tuple[int, int]]) -> Iterator[list[str]]:
    """The modules in order, as many together as LIMIT allows."""
    group: list[str] = []
    size = 0
    for name, (_, inputs) in shapes.items():
        if group and size + 4 * inputs**2 > LIMIT:
            yield group
            group, size = [], 0
        group.append(name)
        size += 4 * inputs**2
    yield group


def quantized(
    folder: str, targets: list[str], rank: int, rows: list[dict[str, str]], kept: Kept
) -> Iterator[tuple[str, dict[str, torch.Tensor], dict[str, dict[str, float]]]]:
    """For each module what stands for W in each variant, float32 (out, in), and its errors.

    weighted: the norm of the error of the layer's outputs on the calibration text, sqrt(tr(E H E^T)).
    """
    shapes = checkpoint.shapes(folder, targets)
    for group in groups(shapes):
        hessians = calibration.hessians(folder, rows, group)
        for name, weight in checkpoint.targets(folder, group):
            hessian = hessians.pop(name)
            weight = weight.to(hessian)
            rest = residual(spectrum(name, weight, kept), rank)
            taken = weight - rest
            made = {"qlora": gptq.roundtrip(weight, hessian), "qpissa": gptq.roundtrip(rest, hessian) + taken}
            yield name, made, {key: _errors(weight - value, hessian) for key, value in made.items()}


def _errors(missed: torch.Tensor, hessian: torch.Tensor) -> dict[str, float]:
    weighted = ((missed @ hessian) * missed).sum(dtype=torch.float64).clamp(min=0).sqrt().item()
    return {"nuclear": error(missed)["nuclear"], "weighted": weighted}


def perplexity(network: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> float:
    """exp of the mean negative log-likelihood of a token, every token predicted once (lm-eval's rolling windows)."""
    from lm_eval.api.instance import Instance

    from pissa_repro.scoring import lms

    scorer = lms.HF(
        pretrained=network, tokenizer=tokenizer, batch_size=1, max_length=min(2048, window(network.config, 2048))
    )
    requests = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(texts)]
    total = sum(scorer.loglikelihood_rolling(requests, disable_tqdm=True))
    return math.exp(-total / sum(len(scorer.tok_encode(text, add_special_tokens=False)) for text in texts))


def measure_perplexities(
    folder: str, spec: GptqSpec, rows: list[dict[str, str]], texts: list[str], kept: Kept
) -> dict[str, Any]:
    """Perplexity of the untouched model and of both variants, and the summed errors."""
    targets = spec["target_modules"] or checkpoint.projections(folder)
    shapes = checkpoint.shapes(folder, targets)
    check_ranks(shapes, [spec["rank"]])
    made: dict[str, dict[str, torch.Tensor]] = {variant: {} for variant in VARIANTS}
    totals = {variant: {"nuclear": 0.0, "weighted": 0.0} for variant in VARIANTS}
    for name, weights, errors in track(quantized(folder, targets, spec["rank"], rows, kept), "gptq", len(shapes)):
        for variant in VARIANTS:
            made[variant][name] = weights[variant].cpu()
            for key, value in errors[variant].items():
                totals[variant][key] += value
    network, tokenizer = load_base(folder).eval(), load_tokenizer(folder)
    perplexities = {"untouched": perplexity(network, tokenizer, texts)}
    for variant in VARIANTS:
        for name in shapes:
            set_weight(network, name, made[variant].pop(name))
        perplexities[variant] = perplexity(network, tokenizer, texts)
    return {"perplexity": perplexities, "errors": totals, "modules": len(shapes), "texts": len(texts)}
