"""Tiny models and rows of the tests of sequence classification: an encoder and a Llama, with a head and without."""

import shutil
from pathlib import Path

from tiny import ROWS, decaying

FIELDS = {"text": "text", "label": "label"}
PAIRS = {**FIELDS, "text_pair": "text_pair"}
TARGETS = {"bert": ["query", "value", "intermediate.dense"], "llama": ["q_proj", "v_proj", "down_proj"]}
# The labels 0 and 1 of one text, by the last digit of its answer; and even and odd of two, where the second of every
# other row is in capital letters.
TEXTS = [{"text": f"{prompt} {response}", "label": str(int(response[-1]) % 2)} for prompt, response in ROWS]
NAMED = [
    {"text": prompt, "text_pair": (response, response.upper())[n % 2], "label": ("even", "odd")[n % 2]}
    for n, (prompt, response) in enumerate(ROWS)
]


def bert_tokenizer():
    """A tokenizer of bytes that puts [CLS] and [SEP] around a text and between two; no eos."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator([text for row in ROWS for text in row], trainer)
    raw.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def save_bert(folder: Path, kind: str = "BertForMaskedLM", **changes) -> Path:
    """Write a tiny BERT of a class of transformers with its tokenizer; the same bits on every call, no dropout."""
    import torch
    import transformers

    tokenizer = bert_tokenizer()
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, dtype="float32",
        **changes,
    )  # fmt: skip
    made = getattr(transformers, kind)
    # A masked language model saves no pooler, which a classifier needs: as released BERTs, this one has it.
    model = made(config, add_pooling_layer=True) if kind == "BertModel" else made(config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.float().named_parameters():
        if parameter.ndim == 2:
            parameter.data = decaying(parameter.shape, generator, spectral="encoder" in name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_classifier(source: Path, folder: Path, names: tuple[str, ...]) -> Path:
    """Write the source's model with a head for classes of these names beside its tokenizer."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=len(names), id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)}
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def copied(source: Path, folder: Path) -> Path:
    """A copy that may be written to."""
    return Path(shutil.copytree(source, folder))


def run_of(folder: Path, model: Path, rows: Path, method: str, quant: str = "none", **changes):
    """A cell of rows of one text or two (by the name of their file), with its start made."""
    from helpers import Run

    fields, kind = {"one": FIELDS, "two": PAIRS}[rows.stem], "bert" if "bert" in model.name else "llama"
    settings = {"steps": 6, "learning_rate": 1e-2, "target_modules": TARGETS[kind], "fields": fields}
    run = Run(folder, model, rows, method, quant, **{**settings, **changes})
    run.init()
    return run
