"""Perplexity of a model on a text: its chunks, and the two numbers. Used by perplexity.yaml."""

import math
from collections.abc import Iterator
from typing import Any

from pissa_repro.runtime.errors import UserError

__all__ = ["CHUNK", "chunks", "corpus", "dataset", "process_results"]

CHUNK = 8192  # characters; a text of several chunks has a standard error


def chunks(text: str) -> Iterator[str]:
    """The text in pieces of at most CHUNK characters, cut at line ends; a longer line is cut inside.

    None is empty, and together they are the text again. A chunk is predicted without what came before
    it, so its first tokens have less context than they had in the text.
    """
    chunk = ""
    for line in text.splitlines(keepends=True):
        for start in range(0, len(line), CHUNK):
            piece = line[start : start + CHUNK]
            if len(chunk) + len(piece) > CHUNK:
                yield chunk
                chunk = ""
            chunk += piece
    if chunk:
        yield chunk


def dataset(path: str, **metadata: object) -> dict[str, Any]:
    """The chunks of the rows' texts, as lm-eval wants them. Raises UserError where no row has any text."""
    from datasets import Dataset

    from pissa_repro.runtime.record import read_lines

    pieces = [{"text": chunk} for row in read_lines(path) for chunk in chunks(row["text"])]
    if not pieces:
        raise UserError(f"perplexity: there is no text in {path}.")
    return {"test": Dataset.from_list(pieces)}


def process_results(doc: dict[str, str], results: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one chunk: `paper` in nats per token; `perplexity`'s pair (nats, tokens) for `corpus`.

    results[0] is {"loglikelihood": sum over the chunk in nats, "tokens": their number}. Raises UserError
    for a chunk without tokens, and for a log-likelihood that is not a number or infinite.
    """
    nats, tokens = results[0]["loglikelihood"], results[0]["tokens"]
    if tokens < 1 or not math.isfinite(nats):
        raise UserError(f"perplexity: log-likelihood {nats} of {tokens} tokens for the chunk {doc['text'][:60]!r}.")
    return {"paper": -nats / tokens, "perplexity": (nats, tokens)}


def corpus(pairs: list[tuple[float, int]]) -> float:
    """exp(-log-likelihood / tokens) over all chunks; lm-eval has no standard error for it."""
    return math.exp(-math.fsum(nats for nats, _ in pairs) / sum(tokens for _, tokens in pairs))
