"""Training examples: a prompt and its response, or a plain text, in tokens with labels."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypedDict

from pissa_repro.runtime.errors import UserError
from pissa_repro.sources.prompt import DEFAULT, Style, make_style

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RESPONSE, ALL = "response", "all"  # what the loss is taken on


class Example(TypedDict):
    """The tokens of an example, and its labels: -100 where no loss is taken."""

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
    rows: list[dict[str, str]], tokenizer: "PreTrainedTokenizerBase", prompt: str = DEFAULT
) -> tuple[list[list[int]], list[list[int]]]:
    """The ids of each row's prompt, and of the whole row with its end. A plain text (role text) has no prompt."""
    asked = make_style(prompt, tokenizer)
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
) -> tuple[list[Example], Lengths]:
    """Token ids and labels of prompt and response: for the released prompt, response + newline + eos follow it.

    As the released code: prompt and target are tokenized together, the prompt's labels are -100, and what is beyond
    `max_length` tokens is cut (docs/paper_facts.md 3.2). With loss "all" the prompt has labels too. A plain text is
    text + eos, and all of it has labels: it has no prompt.

    prompt: a style of sources/prompt.py. Raises UserError for one that the tokenizer does not have, and where no row
    leaves anything to train on.
    """
    heads, whole = uncut(rows, tokenizer, prompt)
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
