"""Twenty steps of a method beside PEFT's own code: the same start, rows and order give the same loss."""

import pytest
import torch
from helpers import LLAMA, Run
from safetensors.torch import load_file
from test_recipe import own_batches, own_loss

from pissa_repro.model import factors

STEPS, BATCH, RATE, RANK, CLIP = 20, 4, 5e-3, 4, 1.0


def ours(folder, model, rows, method, **changes):
    """The run and the task's loss of every step."""
    run = Run(
        folder, model, rows, method, rank=RANK, learning_rate=RATE, steps=STEPS, batch_size=BATCH, schedule="constant",
        warmup_ratio=0, weight_decay=0, max_grad_norm=CLIP, **changes,
    )  # fmt: skip
    run.init()
    run.train()
    return run, [row.loss for row in run.history()]


def theirs(run, wrap, optimizer, before=None, after=None):
    """The task's losses of a plain loop. wrap(model): PEFT's, with our start. before, after: the optimizer's step."""
    from transformers import AutoModelForCausalLM

    rows = [(example["input_ids"], example["labels"]) for example in run.prepare().examples]
    torch.manual_seed(0)
    model = wrap(AutoModelForCausalLM.from_pretrained(run.sweep.config["models"]["tiny"]["path"])).train()
    stepping, batches, losses = optimizer(model), own_batches(len(rows), BATCH, 0), []
    trained = [p for p in model.parameters() if p.requires_grad]
    for step in range(1, STEPS + 1):
        loss = own_loss(model, [rows[i] for i in next(batches)], 0)
        loss.backward()
        if before:
            before(model, step)
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        stepping.step()
        if after:
            after(model, step)
        stepping.zero_grad()
        losses.append(loss.item())
    return losses


def lora(run, **fields):
    """A function that puts PEFT's LoRA with our start on a model."""
    from peft import LoraConfig, get_peft_model
    from peft.utils import set_peft_model_state_dict

    def wrap(model):
        wrapped = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LLAMA, **fields))
        left = set_peft_model_state_dict(wrapped, load_file(run.start / factors.FACTORS))
        assert not left.unexpected_keys
        return wrapped

    return wrap


def adamw(model):
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=0)


def test_lora_plus_is_lora_with_pefts_optimizer(tmp_path, tiny_model, tiny_rows):
    from peft.optimizers import create_loraplus_optimizer

    run, losses = ours(tmp_path, tiny_model, tiny_rows, "lora_plus")

    def optimizer(model):
        return create_loraplus_optimizer(model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=16, eps=1e-8)

    assert losses == pytest.approx(theirs(run, lora(run), optimizer), rel=1e-5)
    assert losses != pytest.approx(theirs(run, lora(run), adamw), rel=1e-2)
    assert losses[-1] < losses[0]


def test_dora_is_pefts(tmp_path, tiny_model, tiny_rows):
    run, losses = ours(tmp_path, tiny_model, tiny_rows, "lora", lora={"use_dora": True})
    assert losses == pytest.approx(theirs(run, lora(run, use_dora=True), adamw), rel=1e-5)
    assert losses != pytest.approx(theirs(run, lora(run), adamw), rel=1e-4)
