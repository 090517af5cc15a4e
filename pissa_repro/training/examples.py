"""Training examples: a prompt and its response, a plain text, or a text with its class, in tokens with labels."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, cast

from pissa_repro.model.architecture import CAUSAL, Architecture
from pissa_repro.model.tokens import encoded
from pissa_repro.runtime.errors import UserError
from pissa_repro.sources.prompt import DEFAULT, Read, Style, make_style

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RESPONSE, ALL = "response", "all"  # what the loss is taken on


class Classified(TypedDict):
    """The tokens of one text, or of two, and the number of its class."""

    input_ids: list[int]
    token_type_ids: NotRequired[list[int]]
    labels: int


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
    truncated: int = 0  # cut at the window, with part of the target left
    dropped: int = 0  # the prompt alone fills the window: nothing to learn from
    merged: int = 0  # the tokenizer joined the prompt's end and the response's start
    tokens: int = 0
    response_tokens: int = 0  # those with a label: of a plain text, and with the loss on all, every token

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def uncut(
    rows: list[dict[str, str]],
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str = DEFAULT,
    architecture: Architecture = CAUSAL,
) -> tuple[list[list[int]], list[list[int]]]:
    """The ids of each row's prompt, and of the whole row with its end. A plain text (role text) has no prompt.

    Raises UserError for a plain text that an encoder-decoder would have to read and to write.
    """
    asked = make_style(prompt, tokenizer, architecture)
    if isinstance(asked, Read):
        return _read_and_written(rows, asked)
    if rows and "response" not in rows[0]:
        plain = Style("plain", tokenizer)
        return [[] for _ in rows], [plain.closed(ids) for ids in plain.ids([row["text"] for row in rows])]
    pairs = [asked.example(row["prompt"], row["response"]) for row in rows]
    heads, whole = asked.ids([head for head, _ in pairs]), asked.ids([text for _, text in pairs])
    return heads, [asked.closed(ids) for ids in whole]


def tokenize(
    rows: list[dict[str, str]],
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
    prompt: str = DEFAULT,
    loss: str = RESPONSE,
    architecture: Architecture = CAUSAL,
) -> tuple[list[Example], Lengths]:
    """Token ids and labels of prompt and response: for the released prompt, response + newline + eos follow it.

    As the released code: prompt and target are tokenized together, the prompt's labels are -100, and what is beyond
    `max_length` tokens is cut (docs/paper_facts.md 3.2). With loss "all" the prompt has labels too. A plain text is
    text + eos, and all of it has labels: it has no prompt. An encoder-decoder reads the prompt, and its labels are
    response + eos; each is cut by itself, so that nothing is dropped.

    prompt: a style of sources/prompt.py. Raises UserError for one that the tokenizer does not have, and where no row
    leaves anything to train on.
    """
    heads, whole = uncut(rows, tokenizer, prompt, architecture)
    if architecture is not CAUSAL:
        return _pairs(heads, whole, max_length, loss)
    lengths = Lengths(examples=len(rows))
    examples: list[Example] = []
    for asked, uncut_ids in zip(heads, whole, strict=True):
        head, ids = [] if loss == ALL else asked, uncut_ids[:max_length]
        lengths.merged += ids[: len(head)] != head[:max_length]
        lengths.truncated += len(uncut_ids) > max_length > len(head)
        if len(head) >= max_length or len(ids) < 2:  # of a single token none is predicted
            lengths.dropped += 1
            continue
        lengths.tokens += len(ids)
        lengths.response_tokens += len(ids) - len(head)
        examples.append({"input_ids": ids, "labels": [-100] * len(head) + ids[len(head) :]})
    if not examples:
        raise UserError(
            f"config.train.max_length: every prompt fills all {max_length} tokens, or every text is empty; nothing to "
            "train on."
        )
    return examples, lengths


def _read_and_written(rows: list[dict[str, str]], asked: Read) -> tuple[list[list[int]], list[list[int]]]:
    """As `uncut`, of an encoder-decoder."""
    if rows and "response" not in rows[0]:
        raise UserError(
            "an encoder-decoder reads a prompt and writes a response: rows of plain text (role text) have none"
        )
    heads = asked.ids([asked.prompt([row["prompt"]]) for row in rows])
    written = asked.targets([row["response"] for row in rows])
    return heads, [head + ids for head, ids in zip(heads, written, strict=True)]


def _pairs(heads: list[list[int]], whole: list[list[int]], max_length: int, loss: str) -> tuple[list[Example], Lengths]:
    """As `tokenize`, of an encoder-decoder."""
    if loss == ALL:
        raise UserError(
            f"config.train.loss: {ALL!r}, and an encoder-decoder does not write its prompt. Choose {RESPONSE!r}."
        )
    lengths = Lengths(examples=len(whole))
    examples: list[Example] = []
    for head, ids in zip(heads, whole, strict=True):
        written = ids[len(head) :]
        lengths.truncated += max(len(head), len(written)) > max_length
        example: Example = {"input_ids": head[:max_length], "labels": written[:max_length]}
        lengths.response_tokens += len(example["labels"])
        lengths.tokens += len(example["input_ids"]) + len(example["labels"])
        examples.append(example)
    return examples, lengths


def classified(
    rows: list[dict[str, Any]], tokenizer: "PreTrainedTokenizerBase", max_length: int, numbers: Mapping[str, int]
) -> tuple[list[Classified], Lengths]:
    """The ids of texts, or of pairs of texts, cut to `max_length` tokens as the tokenizer cuts, and their classes.

    numbers: of the classes by their names. Raises UserError for a row whose text has no tokens.
    """
    whole, cut = encoded(tokenizer, rows), encoded(tokenizer, rows, max_length)
    kept = {key: cut[key] for key in ("input_ids", "token_type_ids") if key in cut}
    if empty := [number for number, ids in enumerate(whole["input_ids"]) if not ids]:
        raise UserError(f"config.datasets: row {empty[0]} has no tokens, so there is nothing to read a class from.")
    truncated = sum(len(ids) > max_length for ids in whole["input_ids"])
    lengths = Lengths(len(rows), truncated, tokens=sum(map(len, cut["input_ids"])))
    columns = zip(*kept.values(), strict=True)
    return [
        cast("Classified", {**dict(zip(kept, one, strict=True)), "labels": numbers[row["label"]]})
        for row, one in zip(rows, columns, strict=True)
    ], lengths
