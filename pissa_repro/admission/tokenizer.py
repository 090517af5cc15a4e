"""Whether a model's tokenizer is whole, and whether the model has an embedding for every id that it gives."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.model.folder import TOKENIZERS
from pissa_repro.model.tokens import load_tokenizer, prompt_ids
from pissa_repro.runtime.errors import UserError
from pissa_repro.sources.prompt import PROMPT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMS = "tokenizer.json; tokenizer.model; vocab.json and merges.txt; or vocab.txt"
NO_VOCABULARY = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"}
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


def whole_tokenizer(folder: str | Path, needs_end: bool = True) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model folder, whose files are complete and which makes tokens of a prompt.

    Raises UserError otherwise: where files are missing, transformers may build a tokenizer without any vocabulary.
    """
    there = ", ".join(_vocabularies(Path(folder))) or "none"
    try:
        tokenizer = load_tokenizer(folder, needs_end)
    except UserError as error:
        raise UserError(f"{error} Vocabulary files in the folder: {there}. A whole tokenizer is: {FORMS}.") from None
    if missing := _missing(Path(folder), tokenizer):
        raise UserError(
            f"{folder}: {type(tokenizer).__name__} needs {' and '.join(missing)}, which the folder lacks. Vocabulary "
            f"files in the folder: {there}. A whole tokenizer is: {FORMS}."
        )
    (ids,) = prompt_ids(tokenizer, [PROMPT.format(instruction="What is 1 + 1?")])
    if not set(ids) - {tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}:
        raise UserError(f"{folder}: the tokenizer makes only {ids[:8]} of a prompt; its vocabulary is another's.")
    return tokenizer


def _vocabularies(folder: Path) -> list[str]:
    found = {path.name for kind in TOKENIZERS for path in folder.glob(kind)}
    return sorted(found - NO_VOCABULARY)


def _missing(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The files that a tokenizer class reads and that are not there; none where one file holds everything."""
    if (folder / "tokenizer.json").is_file():
        return []
    names = {key: name for key, name in type(tokenizer).vocab_files_names.items() if key != "tokenizer_file"}
    return sorted(name for name in names.values() if not (folder / name).is_file())


def unused(tokenizer: "PreTrainedTokenizerBase", rows: int) -> int:
    """How many of its added tokens have no row of the embedding. They do no harm while no text has them.

    Raises UserError where the model has no embedding for the vocabulary itself, or for a special token that is used.
    """
    if tokenizer.vocab_size > rows:
        raise UserError(
            f"{tokenizer.name_or_path}: the tokenizer has {tokenizer.vocab_size} tokens, the embedding {rows} rows. "
            "It belongs to another model: put the model's own tokenizer into the folder."
        )
    for name in SPECIAL:
        number = getattr(tokenizer, f"{name}_id")
        if number is not None and number >= rows:
            raise UserError(
                f"{tokenizer.name_or_path}: {name} {getattr(tokenizer, name)!r} has the id {number}, the embedding "
                f"only {rows} rows. Take it out of the tokenizer's files (without a pad_token, eos pads), or resize "
                "the model's embedding and save it."
            )
    return sum(number >= rows for number in tokenizer.get_vocab().values())


def check_ids(ids: Iterable[list[int]], rows: int, place: str) -> None:
    """Raise UserError for the first text with an id beyond the embedding's rows."""
    for number, text in enumerate(ids):
        if text and max(text) >= rows:
            raise UserError(
                f"{place}: row {number} has the token id {max(text)}, and the model's embedding only {rows} rows. Take "
                "the text of that token out of the rows, or use a model with an embedding for it."
            )
