"""Training examples: the paper's prompt and target, and their tokens."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypedDict

from pissa_repro.model.architecture import CAUSAL, Architecture
from pissa_repro.model.tokens import input_ids, prompt_ids
from pissa_repro.runtime.errors import UserError
from pissa_repro.sources.prompt import PROMPT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Example(TypedDict):
    """The tokens of an example, and its labels: -100 where no loss is taken.

    Of a causal model both are prompt and response; of an encoder-decoder the prompt, and the response.
    """

    input_ids: list[int]
    labels: list[int]


@dataclass
class Lengths:
    """How the examples fit the window: counts of examples, and of tokens."""

    examples: int = 0
    truncated: int = 0  # cut at the window, with part of the response left
    dropped: int = 0  # the prompt alone fills the window: nothing to learn from
    merged: int = 0  # the tokenizer joined the prompt's end and the response's start
    tokens: int = 0
    response_tokens: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def _prompt(row: dict[str, str]) -> str:
    return PROMPT.format(instruction=row["prompt"])


def whole_ids(
    rows: list[dict[str, str]], tokenizer: "PreTrainedTokenizerBase", architecture: Architecture = CAUSAL
) -> list[list[int]]:
    """The ids of each row's prompt and response, uncut."""
    if architecture is not CAUSAL:
        return [read + written for read, written in _pairs(rows, tokenizer, architecture)]
    return prompt_ids(tokenizer, [_prompt(row) + row["response"] + "\n" for row in rows])


def tokenize(
    rows: list[dict[str, str]],
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
    architecture: Architecture = CAUSAL,
) -> tuple[list[Example], Lengths]:
    """Token ids and labels: prompt + response + newline + eos, loss on the response only.

    As the released code: prompt and target are tokenized together, the prompt's labels are -100,
    and what is beyond `max_length` tokens is cut (docs/paper_facts.md 3.2). An encoder-decoder reads the prompt
    and writes response + eos; each is cut at `max_length` by itself.
    """
    if architecture is not CAUSAL:
        return _tokenize_pairs(rows, tokenizer, max_length, architecture)
    whole = whole_ids(rows, tokenizer)
    heads = prompt_ids(tokenizer, [_prompt(row) for row in rows])
    eos, lengths = tokenizer.eos_token_id, Lengths(examples=len(rows))
    examples: list[Example] = []
    for head, ids in zip(heads, whole, strict=True):
        ids = (ids if ids[-1] == eos else [*ids, eos])[:max_length]
        lengths.merged += ids[: len(head)] != head[:max_length]
        lengths.truncated += len(ids) == max_length and ids[-1] != eos and len(head) < max_length
        if len(head) >= max_length:
            lengths.dropped += 1
            continue
        lengths.tokens += len(ids)
        lengths.response_tokens += len(ids) - len(head)
        examples.append({"input_ids": ids, "labels": [-100] * len(head) + ids[len(head) :]})
    if not examples:
        raise UserError(f"config.train.max_length: every prompt fills all {max_length} tokens; nothing to train on.")
    return examples, lengths


def _pairs(
    rows: list[dict[str, str]], tokenizer: "PreTrainedTokenizerBase", architecture: Architecture
) -> Iterator[tuple[list[int], list[int]]]:
    """The ids of each row's prompt, and of its response and eos, uncut: what an encoder reads, what a decoder writes.

    The response is as the tokenizer makes a target, and closed with eos where it does not close it itself.
    """
    eos = tokenizer.eos_token_id
    prompts = input_ids(tokenizer, [_prompt(row) for row in rows], architecture)
    targets = tokenizer(text_target=[row["response"] for row in rows])["input_ids"]
    for read, written in zip(prompts, targets, strict=True):
        yield read, written if written and written[-1] == eos else [*written, eos]


def _tokenize_pairs(
    rows: list[dict[str, str]], tokenizer: "PreTrainedTokenizerBase", max_length: int, architecture: Architecture
) -> tuple[list[Example], Lengths]:
    """As `tokenize`, of an encoder-decoder. Nothing is dropped: where a prompt is cut, its response is not."""
    lengths = Lengths(examples=len(rows))
    examples: list[Example] = []
    for read, written in _pairs(rows, tokenizer, architecture):
        lengths.truncated += max(len(read), len(written)) > max_length
        read, written = read[:max_length], written[:max_length]
        lengths.tokens += len(read) + len(written)
        lengths.response_tokens += len(written)
        examples.append({"input_ids": read, "labels": written})
    return examples, lengths
