"""What benchmarks/evaluate.py generates with: a random Llama, and problems of gsm-mini."""

from pathlib import Path
from typing import NamedTuple

from evaluate_worker import DTYPE

from pissa_repro.embedded import problems
from pissa_repro.runtime.record import write_lines
from pissa_repro.sources.fetched import EMBEDDED
from pissa_repro.sources.rows import select

ROWS = {"fields": {"prompt": "question", "response": "answer"}}
HEAD = 64  # dimensions of the heads: vLLM has CPU kernels for it


class Model(NamedTuple):
    """A model to generate with, how many problems of gsm-mini's test split it gets, and how far it may go."""

    name: str
    folder: Path
    items: int
    new_tokens: int


def random_llama(folder: Path, width: int, layers: int) -> None:
    """Save a Llama with transformers' random weights that writes words and never ends a text early.

    The logits of eos, and of all tokens that are not letters, are 0; in 1,000 random ones the largest is not.
    Of bytes that are no characters, engines make different texts.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from pissa_repro.model.tokens import load_tokenizer

    tokenizer, heads = load_tokenizer(EMBEDDED), width // HEAD
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=width * 8 // 3 // HEAD * HEAD,
        num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads, head_dim=HEAD,
        max_position_embeddings=512, tie_word_embeddings=False, dtype=DTYPE, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    words = [text.strip() for text in tokenizer.batch_decode([[i] for i in range(len(tokenizer))])]
    unwanted = [i for i, text in enumerate(words) if not (text.isascii() and text.isalpha())]
    model.lm_head.weight.data[[*unwanted, *tokenizer.all_special_ids]] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def parameters(folder: Path) -> int:
    """Stored parameters of a model in one file."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        return sum(file.get_tensor(key).numel() for key in file.keys())  # noqa: SIM118 (not a mapping)


def rows_of(count: int, folder: Path) -> Path:
    """The first problems of gsm-mini's test split, as the fetch stage writes them."""
    path = folder / f"{count}.jsonl"
    write_lines(path, select(problems.generate("test", count), ROWS, "gsm-mini"))
    return path
