"""What stock PEFT makes: an adapter trained two steps from its start, in the folders that its docs tell to write."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from commands import pissa
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraGAConfig
from peft.tuners.lora.loraga import preprocess_loraga
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

TARGETS = ["q_proj", "v_proj", "up_proj"]
TOKENS = torch.randint(3, 290, (4, 12), generator=torch.Generator().manual_seed(1))
START = {name: {"init_lora_weights": name} for name in ("pissa", "olora", "lora_ga")}


@dataclass
class Trained:
    """Folders of the start, of the trained adapter, of the residual, and the trained model's logits."""

    init: Path
    adapter: Path
    residual: Path
    logits: torch.Tensor
    model: PeftModel


def plain(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model.eval()(input_ids=TOKENS).logits


def train(base: Path, folder: Path, steps: int = 2, rate: float = 1e-3, **fields) -> Trained:
    """Train an adapter by PEFT alone. fields: of LoraConfig. The start is saved as PEFT's docs say."""
    torch.manual_seed(0)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "task_type": "CAUSAL_LM", **fields}
    config, model = LoraConfig(**settings), plain(base)
    if config.init_lora_weights == "lora_ga":
        config.lora_ga_config = LoraGAConfig()
        preprocess_loraga(model, config, lambda: model(input_ids=TOKENS, labels=TOKENS).loss.backward())
    model = get_peft_model(model, config)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(folder / "pissa_init")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    for _ in range(steps):
        model.train()(input_ids=TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder / "trained")
    copy.deepcopy(model).unload().save_pretrained(folder / "residual")
    return Trained(folder / "pissa_init", folder / "trained", folder / "residual", logits(model), model)


def convert(trained: Trained, out: Path, *words) -> None:
    pissa("convert", trained.adapter, "--init", trained.init, "--out", out, *words)


def loaded(base: Path, adapter: Path) -> torch.Tensor:
    """Logits of a folder that stock PEFT loads on a model."""
    return logits(PeftModel.from_pretrained(plain(base), adapter))


def changed(source: Path, target: Path, tensors=lambda given: given, **fields) -> Path:
    """A copy of an adapter's folder with other tensors and fields of its config."""
    target.mkdir(parents=True)
    config = json.loads((source / "adapter_config.json").read_text(encoding="utf-8")) | fields
    (target / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    made = tensors(load_file(source / "adapter_model.safetensors"))
    save_file({key: value.contiguous() for key, value in made.items()}, target / "adapter_model.safetensors")
    return target


def of_rank(rank: int, source: Path, folder: Path, **fields) -> Path:
    """A copy with the first row of A and column of B repeated, to have factors of any rank."""

    def repeated(tensors):
        return {k: t[:1].repeat(rank, 1) if ".lora_A." in k else t[:, :1].repeat(1, rank) for k, t in tensors.items()}

    return changed(source, folder / source.name, repeated, r=rank, **fields)
