"""Tiny encoder-decoders of the tests, with the tests' own tokenizer: a T5, a T5 with a head of its own, a BART."""

from pathlib import Path

from tiny import byte_tokenizer, decaying

T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
BART = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 256, "num_labels": 3,
}  # fmt: skip
KINDS = ("t5", "gated", "bart")
TARGETS = {"t5": ["q", "v", "wi", "wo"], "gated": ["q", "v", "wi_0", "wo"], "bart": ["q_proj", "v_proj", "fc1", "fc2"]}


def save_encoder_decoder(folder: Path, kind: str) -> Path:
    """Write a model with random weights of a decaying spectrum and its tokenizer; the same bits on every call.

    kind: t5; gated, as T5 1.1 and Flan-T5, whose head is not the embedding; bart. None has dropout.
    """
    import torch
    from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

    tokenizer = byte_tokenizer("$A </s>" if kind != "bart" else "<s> $A </s>")
    ids = {"vocab_size": len(tokenizer), "bos_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, "dtype": "float32"}
    if kind == "bart":  # as the released ones, it begins with eos
        model = BartForConditionalGeneration(BartConfig(**ids, **BART, dropout=0.0, decoder_start_token_id=1))
    else:
        gated = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if kind == "gated" else {}
        model = T5ForConditionalGeneration(T5Config(**ids, **T5, **gated, dropout_rate=0.0, decoder_start_token_id=0))
    generator = torch.Generator().manual_seed(0)
    if kind == "gated":
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    for name, parameter in model.float().named_parameters():
        if parameter.ndim == 2:
            numbered = any(part.isdigit() for part in name.split(".")) and "bias" not in name
            scale = 1.0 if numbered or kind == "bart" else 0.1  # T5 with large embeddings repeats what it was given
            parameter.data = scale * decaying(parameter.shape, generator, spectral=numbered)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
