"""The loss of a causal model: as from all logits, whatever its head, and on CPUs at positions with a label alone."""

import pytest
import torch
import transformers
from datasets import Dataset
from tiny import byte_tokenizer
from trl import SFTConfig

from pissa_repro.training.causal import CausalTrainer, fits

SHAPE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
ROWS = [[7, 8, 9, 10, 11, 12], [13, 14, 15], [16, 17, 18, 19]]  # tokens
PROMPTS = [3, 1, 4]  # tokens of a row without a label; of the last one all


def made(kind, **more):
    """A tiny model with random weights; vocabulary and width differ from each other."""
    torch.manual_seed(0)
    return kind(kind.config_class(vocab_size=len(byte_tokenizer()), intermediate_size=48, **{**SHAPE, **more})).float()


def training(model, folder, **options):
    """A trainer of the model, and its first micro-batch."""
    examples = [
        {"input_ids": ids, "labels": [-100] * hidden + ids[hidden:]} for ids, hidden in zip(ROWS, PROMPTS, strict=True)
    ]
    args = SFTConfig(
        output_dir=str(folder), use_cpu=True, report_to="none", max_length=None, per_device_train_batch_size=len(ROWS),
        dataset_kwargs={"skip_prepare_dataset": True}, **{"bf16": False, "gradient_checkpointing": False, **options},
    )  # fmt: skip
    trainer = CausalTrainer(
        model=model, args=args, train_dataset=Dataset.from_list(examples), processing_class=byte_tokenizer()
    )
    return trainer, trainer.data_collator(examples)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


MODELS = {
    "plain": lambda: made(transformers.LlamaForCausalLM),
    "tied": lambda: made(transformers.LlamaForCausalLM, tie_word_embeddings=True),
    "bias": lambda: made(transformers.PhiForCausalLM),
    "softcap": lambda: made(transformers.Gemma2ForCausalLM, head_dim=16, final_logit_softcapping=0.5),
    "scaled": lambda: made(transformers.GraniteForCausalLM, logits_scaling=8.0),
    "multiplied": lambda: made(transformers.CohereForCausalLM, logit_scale=0.25),
}


@pytest.mark.parametrize("head", MODELS)
def test_the_loss_is_that_of_all_logits(tmp_path, head, monkeypatch):
    """And so are the gradients of all weights. Rows of several lengths, one of them without a label."""
    model = MODELS[head]()
    trainer, batch = training(model, tmp_path)
    tokens = (batch["labels"] >= 0).sum()
    monkeypatch.setattr("pissa_repro.training.causal.LOGITS", 2 * model.config.vocab_size)  # several chunks
    found = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=tokens)
    labels = batch.pop("labels")[:, 1:].flatten()
    logits = model(**batch).logits[:, :-1].flatten(0, 1)
    wanted = torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / tokens
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    ours, all_logits = gradients(model, found), gradients(model, wanted)
    assert ours.keys() == all_logits.keys()
    for name, one in ours.items():
        assert (one - all_logits[name]).norm() <= 1e-5 * all_logits[name].norm(), name


@pytest.fixture
def heads(monkeypatch):
    """The rows that PyTorch's head is asked for, call by call."""
    seen, asked = [], torch.nn.functional.linear_cross_entropy

    def counted(hidden, *args, **given):
        seen.append(len(hidden))
        return asked(hidden, *args, **given)

    monkeypatch.setattr(torch.nn.functional, "linear_cross_entropy", counted)
    return seen


def test_positions_without_a_label_are_left_out(tmp_path, heads):
    trainer, batch = training(made(transformers.LlamaForCausalLM), tmp_path)
    trainer.train()
    assert heads == [(batch["labels"][:, 1:] >= 0).sum()] * 3  # of 15 positions; three epochs of a step


@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("softcap", {}),
        ("scaled", {}),
        ("multiplied", {}),
        ("plain", {"bf16": True}),
    ],
)
def test_what_is_no_plain_product_in_float32_has_trls_head(tmp_path, head, options):
    trainer, _ = training(MODELS[head](), tmp_path, **options)
    assert not fits(trainer.model, trainer.args)
    assert "/trl/" in trainer.model.forward.__func__.__code__.co_filename


def test_a_micro_batch_without_a_label_has_no_loss(tmp_path):
    model = made(transformers.LlamaForCausalLM)
    trainer, batch = training(model, tmp_path)
    batch["labels"][:] = -100
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(5))
    assert loss == 0 and not any(one.any() for one in gradients(model, loss).values())


def test_a_model_that_is_asked_for_logits_gives_them(tmp_path):
    model = made(transformers.LlamaForCausalLM)
    trainer, batch = training(model, tmp_path)
    out = trainer.model(**batch)
    assert out.logits.shape[-1] == model.config.vocab_size and out.loss > 0
