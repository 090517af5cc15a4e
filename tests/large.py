"""Cells of a model that is large enough for its weights to be most of what a process takes; and what one takes."""

from pathlib import Path

import torch
from helpers import Run
from tiny import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from pissa_repro.model import checkpoint, factors
from pissa_repro.runtime.record import read_json, write_lines

RANK = 4


def save_llama(folder: Path, wide: int, layers: int) -> Path:
    """A random Llama in bfloat16 of seven square matrices a layer, with its tokenizer."""
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=wide, intermediate_size=wide, num_hidden_layers=layers,
        num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=256, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def cell_of(folder: Path, model: Path, method: str, quant: str, **changes) -> Run:
    """A cell on four short rows; its start, random factors, is taken out of the base."""
    folder.mkdir(parents=True)
    write_lines(folder / "rows.jsonl", [{"prompt": "Ann has 2", "response": f"{n}"} for n in range(4)])
    run = Run(folder, model, folder / "rows.jsonl", method, quant, **{"max_length": 256, **changes})
    if run.init_spec is None:
        return run
    made, generator = factors.Factors({}, {}, "start", RANK, float(RANK), False), torch.Generator().manual_seed(0)
    for name, weight in checkpoint.weights(model, checkpoint.projections(model)).items():
        out, into = weight.shape
        made.A[name], made.B[name] = (
            0.01 * torch.randn(shape, generator=generator) for shape in ((RANK, into), (out, RANK))
        )
    factors.save(run.start, made, read_json(run.model), method, quant)
    return run
