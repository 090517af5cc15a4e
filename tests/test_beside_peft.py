"""Twenty steps of a method beside PEFT's own code: the same start, rows and order give the same loss."""

import pytest
import torch
from helpers import LLAMA, Run
from safetensors.torch import load_file
from test_recipe import own_batch, own_batches

from pissa_repro.model import factors

STEPS, BATCH, RATE, RANK, CLIP = 20, 4, 5e-3, 4, 1.0
OTHER = 6  # steps after which another method's loss is another one
ALLOCATION = {"warmup_share": 0.1, "final_share": 0.3}  # 2 and 6 of the steps


def ours(folder, model, rows, method, rate=RATE, **changes):
    """The run and the task's loss of every step."""
    run = Run(
        folder, model, rows, method, rank=RANK, learning_rate=rate, steps=STEPS, batch_size=BATCH, schedule="constant",
        warmup_ratio=0, weight_decay=0, max_grad_norm=CLIP, **changes,
    )  # fmt: skip
    run.init()
    run.train()
    return run, [row.loss for row in run.history()]


def theirs(run, wrap, optimizer, before=None, after=None, steps=STEPS):
    """The task's losses of a plain loop of so many steps, and its model.

    wrap(model): PEFT's model, with our start; its loss may have a penalty in it. before, after: the optimizer's step.
    """
    from transformers import AutoModelForCausalLM

    rows = [(example["input_ids"], example["labels"]) for example in run.prepare().examples]
    torch.manual_seed(0)
    model = wrap(AutoModelForCausalLM.from_pretrained(run.sweep.config["models"]["tiny"]["path"])).train()
    stepping, batches, losses = optimizer(model), own_batches(len(rows), BATCH, 0), []
    trained = [p for p in model.parameters() if p.requires_grad]
    for step in range(1, steps + 1):
        batch = own_batch([rows[i] for i in next(batches)], 0)
        outputs = model(**batch)
        outputs.loss.backward()
        if before:
            before(model, step)
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        stepping.step()
        if after:
            after(model, step)
        stepping.zero_grad()
        logits, labels = outputs.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
        losses.append(torch.nn.functional.cross_entropy(logits, labels).item())
    return losses, model


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


def adalora(run, **config):
    """A function that puts PEFT's AdaLoRA with our start on a model. Its lora_E is our core, and zero as that is."""
    from peft import AdaLoraConfig, get_peft_model

    start = load_file(run.start / factors.FACTORS)
    initial = len(next(value for key, value in start.items() if key.endswith("lora_A.weight")))

    def wrap(model):
        given = {"init_r": initial, "target_r": RANK, "lora_alpha": initial, "target_modules": LLAMA}
        schedule = {"tinit": 2, "tfinal": 6, "total_step": STEPS}
        wrapped = get_peft_model(model, AdaLoraConfig(task_type="CAUSAL_LM", **given, **schedule, **config))
        named = dict(wrapped.named_parameters())
        for key, value in start.items():
            if not key.endswith("lora_core.weight"):
                named[key.replace(".weight", ".default")].data.copy_(value)
        return wrapped

    return wrap


def adamw(model, rate=RATE):
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0)


def test_lora_plus_is_lora_with_pefts_optimizer(tmp_path, tiny_model, tiny_rows):
    from peft.optimizers import create_loraplus_optimizer

    run, losses = ours(tmp_path, tiny_model, tiny_rows, "lora_plus")

    def optimizer(model):
        return create_loraplus_optimizer(model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=16, eps=1e-8)

    assert losses == pytest.approx(theirs(run, lora(run), optimizer)[0], rel=1e-5)
    assert losses[:OTHER] != pytest.approx(theirs(run, lora(run), adamw, steps=OTHER)[0], rel=1e-2)
    assert losses[-1] < losses[0]


def test_dora_is_pefts(tmp_path, tiny_model, tiny_rows):
    run, losses = ours(tmp_path, tiny_model, tiny_rows, "lora", lora={"use_dora": True})
    assert losses == pytest.approx(theirs(run, lora(run, use_dora=True), adamw)[0], rel=1e-5)
    assert losses[:OTHER] != pytest.approx(theirs(run, lora(run), adamw, steps=OTHER)[0], rel=1e-4)


def test_adalora_is_pefts_with_the_importances_where_the_paper_has_them(tmp_path, tiny_model, tiny_rows):
    """Pitfall 26. Algorithm 1 takes importances of the weights before a step, PEFT after it, of clipped gradients.

    Only that call of PEFT's is moved; penalty, scaling, averages, budget and masks are its own.
    """
    options = ALLOCATION | {"orthogonality": 0.3}
    run, losses = ours(tmp_path, tiny_model, tiny_rows, "adalora", rate=5e-2, options=options)

    def before(model, step):
        allocator = model.base_model.rankallocator
        if step < STEPS - 6:
            type(allocator).update_ipt(allocator, model.base_model.model)
        allocator.update_ipt = lambda model: None

    def after(model, step):
        model.base_model.update_and_allocate(step)

    def optimizer(model):
        return adamw(model, 5e-2)

    found, model = theirs(run, adalora(run, orth_reg_weight=0.3), optimizer, before, after)
    assert losses == pytest.approx(found, rel=1e-5) and losses[-1] < 0.95 * losses[0]
    trained = load_file(run.factors / factors.FACTORS)
    cores = {key: value for key, value in trained.items() if key.endswith("lora_core.weight")}
    masks = model.base_model.peft_config["default"].rank_pattern
    assert len(cores) == len(masks) and sum(int((core != 0).sum()) for core in cores.values()) == RANK * len(cores)
    for key, core in cores.items():
        name = key.removeprefix("base_model.model.").replace("lora_core.weight", "lora_E.default")
        assert (core != 0).tolist() == masks[name]
    as_it_is, _ = theirs(run, adalora(run, orth_reg_weight=0.3), optimizer, after=after)
    assert losses[:3] == pytest.approx(as_it_is[:3], rel=1e-6)  # until the first mask
    assert losses != pytest.approx(as_it_is, rel=1e-3)


def test_eva_is_pefts_on_our_directions_and_ranks(tmp_path, tiny_model, tiny_rows):
    """PEFT's own ranks, scalings and B, for the directions given to it; finding them: tests/test_method_eva.py."""
    from peft import LoraConfig, get_peft_model, initialize_lora_eva_weights

    run, losses = ours(tmp_path, tiny_model, tiny_rows, "eva", statistics={"rows": 8})
    given, mark = load_file(run.start / factors.FACTORS), ".lora_A.weight"
    directions = {key.removesuffix(mark): value for key, value in given.items() if key.endswith(mark)}
    assert len({len(rows) for rows in directions.values()}) > 1  # some modules have other ranks

    def wrap(model):
        eva = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LLAMA, init_lora_weights="eva")
        wrapped = get_peft_model(model, eva)
        initialize_lora_eva_weights(wrapped, eva_state_dict=dict(directions))
        return wrapped

    assert losses == pytest.approx(theirs(run, wrap, adamw)[0], rel=1e-5)
    assert losses[-1] < losses[0]
