"""The tiny models and rows of the tests. No torch here before a model is made."""

from pathlib import Path

ROWS = [
    (
        f"Ann has {a} apples and buys {b} more. How many apples are there?",
        f"{a} + {b} = {a + b}\nThe answer is: {a + b}",
    )
    for a, b in [(2, 3), (4, 5), (1, 7), (6, 6), (9, 2), (3, 8), (5, 5), (7, 4), (8, 1), (2, 9), (4, 4), (6, 3)]
]


def save_tiny_model(folder: Path) -> None:
    """Write the model and its tokenizer; the same bits on every call."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, dtype="float32",
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    model = LlamaForCausalLM(config).float()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            parameter.data = decaying(parameter.shape, generator, spectral="embed" not in name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_tiny_gpt2(saved: Path, hub: Path) -> None:
    """Write the model and its tokenizer under both namings; the same bits on every call."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = byte_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=512,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, dtype="float32",
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    model = GPT2LMHeadModel(config).float()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            parameter.data = decaying(parameter.shape, generator, spectral=".h." in name)
        else:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)  # biases are zero otherwise
    model.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    shutil.copytree(saved, hub)
    tensors = load_file(saved / "model.safetensors")
    save_file(
        {k.removeprefix("transformer."): t for k, t in tensors.items()}, hub / "model.safetensors", {"format": "pt"}
    )


def decaying(shape, generator, spectral: bool):
    """A random (out, in) matrix; its k-th singular value is 2 / sqrt(k), as in a trained network."""
    import torch

    noise = torch.randn(shape, generator=generator)
    if not spectral:
        return noise
    u, _, vt = torch.linalg.svd(noise, full_matrices=False)
    return u * (2.0 / torch.arange(1, u.shape[1] + 1) ** 0.5) @ vt


def byte_tokenizer(template: str = "<s> $A", more: tuple[str, ...] = ()):
    """A byte-level BPE tokenizer of 300 tokens with <s> as bos and </s> as eos; no pad token.

    template: what it puts around a text. more: special tokens after these two, in the place of learnt ones.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>", *more], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator([text for row in ROWS for text in row], trainer)
    raw.post_processor = processors.TemplateProcessing(template, special_tokens=[("<s>", 0), ("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
