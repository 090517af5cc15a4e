"""`pissa decompose` as tests call it, and what they read of its folder."""

import torch
from commands import pissa
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def decompose(source, out, *words):
    """A decomposition of rank 4, whose factors are kept beside OUT."""
    pissa("decompose", source, "--rank", 4, "--out", out, "--scratch", out.parent / "kept", *words)
    return out


def tensors(folder) -> dict[str, torch.Tensor]:
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def pair(folder, name="pissa_init", **words) -> PeftModel:
    """The residual with its adapter, as PEFT loads them."""
    residual = AutoModelForCausalLM.from_pretrained(folder)
    return PeftModel.from_pretrained(residual, folder, subfolder=name, **words)


def files(folder) -> dict[str, bytes]:
    """Every file but the record, which has its time."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "init.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
