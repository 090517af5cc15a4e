"""From texts to token ids: the one way that training, generation, checks and scoring share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pissa_repro.model.architecture import CLASSIFICATION, architecture, start_token
from pissa_repro.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

PROBE = "Answer: 1"  # a text whose own tokens show what the tokenizer puts around a text


def load_tokenizer(folder: str | Path, needs_end: bool = True) -> "PreTrainedTokenizerBase":
    """The model's tokenizer, padding on the right; pad is eos where the model has none (docs/paper_facts.md 3.2).

    needs_end: whether targets end with eos; a model that gives classes may have none, as BERT. Raises UserError for a
    tokenizer that cannot be loaded (damaged files, code from the hub), or has no eos token where one is needed.
    """
    from transformers import AutoTokenizer

    from pissa_repro.model.skeleton import LOCAL, as_user_error

    with as_user_error(folder, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        tokenizer(PROBE)  # some settings are of a wrong type and show only here
    if tokenizer.eos_token_id is None and (needs_end or tokenizer.pad_token_id is None):
        raise UserError(f"{folder}: the tokenizer has no eos token; training targets end with one.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> list[list[int]]:
    """The ids of each text as the model sees it when an answer is still to follow.

    What the tokenizer puts in front of a text stays (bos), what it puts behind is taken off: some
    tokenizers close every text with eos, and a model that was trained to end there says nothing more.
    Raises UserError where what it adds is not in front or behind.
    """
    if not texts:
        return []
    added = _added_behind(tokenizer)
    return [ids[: len(ids) - added] for ids in tokenizer(texts)["input_ids"]]


def text_ids(tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> list[list[int]]:
    """The ids of each text's own tokens, with nothing in front or behind."""
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


def encoded(
    tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Mapping[str, Any]], max_length: int | None = None
) -> "BatchEncoding":
    """What a model that gives classes reads of rows: a text, or two as the tokenizer joins them (role `text_pair`).

    Cut to `max_length` tokens, the longer text first. Lists of ints, as input_ids, attention_mask and, where the
    tokenizer has two kinds of tokens for a pair, token_type_ids.
    """
    texts, cut = [row["text"] for row in rows], max_length is not None
    pairs = [row["text_pair"] for row in rows] if "text_pair" in rows[0] else None
    return tokenizer(texts, pairs, truncation=cut, max_length=max_length)


def align(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Let a model's two configs name the tokenizer's bos, eos and pad, and no other token that stops.

    Model folders name others, or none, or several; training targets end with the tokenizer's eos.
    """
    from transformers import GenerationConfig

    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for name, value in ids.items():
        setattr(model.config.get_text_config(), name, value)
    if architecture(model.config) is not CLASSIFICATION:
        model.generation_config = GenerationConfig(**ids, decoder_start_token_id=start_token(model.config))


def _added_behind(tokenizer: "PreTrainedTokenizerBase") -> int:
    """How many tokens the tokenizer puts behind a text."""
    ids, own = tokenizer(PROBE)["input_ids"], tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    for behind in range(len(ids) - len(own) + 1):
        end = len(ids) - behind
        if own and ids[end - len(own) : end] == own:
            return behind
    raise UserError(
        f"{tokenizer.name_or_path}: the tokens of {PROBE!r} are {own} alone and {ids} with the tokenizer's special "
        "tokens, so what it adds to a text cannot be told from the text. Choose another tokenizer."
    )
