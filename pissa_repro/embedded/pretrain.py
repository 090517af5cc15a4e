"""Build the tokenizer and pre-train the embedded base model from a seed."""

import json
import math
import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pissa_repro.embedded.corpus import documents
from pissa_repro.embedded.tokenizer import POSITIONS, VOCAB_SIZE, build_tokenizer


class Recipe(TypedDict):
    """How the base is trained."""

    batch: int
    length: int
    learning_rate: float
    betas: list[float]
    weight_decay: float
    schedule_steps: int
    warmup_share: float
    final_learning_rate_share: float
    clip: float


SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": POSITIONS,
    "tie_word_embeddings": True,
}
RECIPE: Recipe = {
    "batch": 16,
    "length": 128,
    "learning_rate": 3e-3,
    "betas": [0.9, 0.95],
    "weight_decay": 0.1,
    "schedule_steps": 8000,
    "warmup_share": 0.03,
    "final_learning_rate_share": 0.02,
    "clip": 1.0,
}
HELD_OUT_BATCHES = 32
LOG_EVERY = 100


def blocks(tokenizer: PreTrainedTokenizerFast, seed: str) -> Iterator[torch.Tensor]:
    """Endless (batch, length) blocks of documents laid end to end, each closed by eos."""
    stream, need = documents(seed), RECIPE["batch"] * RECIPE["length"]
    rest: list[int] = []
    while True:
        while len(rest) < need:
            texts = [next(stream) + tokenizer.eos_token for _ in range(64)]
            for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
                rest.extend(ids)
        yield torch.tensor(rest[:need]).view(RECIPE["batch"], RECIPE["length"])
        rest = rest[need:]


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A fresh Llama of the embedded shape."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        **SHAPE,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def learning_rate(step: int) -> float:
    """Linear warm-up, then a cosine over `schedule_steps`, which a run may leave early."""
    steps = RECIPE["schedule_steps"]
    warmup = round(RECIPE["warmup_share"] * steps)
    if step < warmup:
        return RECIPE["learning_rate"] * (step + 1) / warmup
    low = RECIPE["final_learning_rate_share"]
    cosine = 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / (steps - warmup))))
    return RECIPE["learning_rate"] * (low + (1 - low) * cosine)


def build_optimizer(model: LlamaForCausalLM) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves the norms alone."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    norms = [p for p in model.parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": RECIPE["weight_decay"]},
        {"params": norms, "weight_decay": 0.0},
    ]
    first, second = RECIPE["betas"]
    return torch.optim.AdamW(groups, lr=RECIPE["learning_rate"], betas=(first, second))


def train(model: LlamaForCausalLM, batches: Iterator[torch.Tensor], steps: int) -> list[float]:
    """Train in place; returns the loss of each step."""
    optimizer, started = build_optimizer(model), time.perf_counter()
    losses: list[float] = []
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        batch = next(batches)
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE["clip"])
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % LOG_EVERY == 0 or step + 1 == steps:
            report(losses, steps, time.perf_counter() - started)
    return losses


def report(losses: list[float], steps: int, seconds: float) -> None:
    """One plain line of progress."""
    done, recent = len(losses), losses[-LOG_EVERY:]
    print(
        f"step {done}/{steps}  loss {sum(recent) / len(recent):.4f}"
        f"  {done / seconds:.2f} steps/s  {seconds / done * (steps - done):.0f} s left",
        flush=True,
    )


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, batches: Iterator[torch.Tensor]) -> float:
    """The mean loss on documents of another stream."""
    model.eval()
    total = 0.0
    for _ in range(HELD_OUT_BATCHES):
        batch = next(batches)
        total += model(input_ids=batch, labels=batch, use_cache=False).loss.item()
    return total / HELD_OUT_BATCHES


def processor() -> str:
    """The processor's name where Linux tells it, else the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def record(seed: int, losses: list[float], held_out: float, seconds: float) -> dict[str, Any]:
    """What `pretrain.json` says."""
    last = losses[-LOG_EVERY:]
    packages = ("torch", "transformers", "tokenizers", "safetensors")
    return {
        "name": "embedded base of gsm-mini (generated)",
        "seed": seed,
        "steps": len(losses),
        "shape": SHAPE,
        "recipe": RECIPE,
        "tokens_seen": len(losses) * RECIPE["batch"] * RECIPE["length"],
        f"loss_last_{LOG_EVERY}_steps": sum(last) / len(last),
        "loss_held_out": held_out,
        "seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "hardware": {"processor": processor(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
    }


def pretrain(out: Path, seed: int, steps: int) -> dict[str, Any]:
    """Pre-train and write the folder; the record is written last."""
    tokenizer = build_tokenizer(seed)
    model = build_model(tokenizer, seed)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)
    started = time.perf_counter()
    losses = train(model, blocks(tokenizer, f"train {seed}"), steps)
    seconds = time.perf_counter() - started
    result = record(seed, losses, held_out_loss(model, blocks(tokenizer, f"held out {seed}")), seconds)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "pretrain.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result
