"""The tokenizer of the embedded model: byte-level BPE, digits alone, phrases as single tokens.

A library module; `python -m pissa_repro.stages.pretrain` builds it. Text is cut at digits, line
breaks and punctuation but not at spaces, so that merges may span words and the fixed prompt is
cheap. All 256 bytes are in the vocabulary: any text can be written. No special token is added to a
text by itself; `<|endoftext|>` ends a document and is bos and eos, `<pad>` fills on the right.
"""

from collections.abc import Iterator
from itertools import islice

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pissa_repro.embedded.corpus import documents

END, PAD = "<|endoftext|>", "<pad>"
VOCAB_SIZE = 1024
POSITIONS = 512
TRAINED_ON = 20_000  # documents
CUTS = r"\d|\n+|[^\w\s]+"


def train_bpe(texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE trained on an iterator of texts."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CUTS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return bpe


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer of a seed, trained on the first documents of its corpus."""
    return PreTrainedTokenizerFast(
        tokenizer_object=train_bpe(islice(documents(f"tokenizer {seed}"), TRAINED_ON), VOCAB_SIZE),
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        padding_side="right",
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )
