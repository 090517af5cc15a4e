"""The arrows between the forms of an adapter, tried one after the other until one breaks."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from pissa_repro.adapters import logits
from pissa_repro.model.checks import relative_difference
from pissa_repro.model.merged import Merged
from pissa_repro.model.peft_words import FROZEN
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.runtime.errors import NoRoom, UserError, failed_write

START_RECORD = "init.json"  # of what an initialisation has made
OK, BROKEN, NOT = "ok", "broken", "not tried"
# Serves a merged model and compares what it says with the logits after the prompts: a sentence. Raises Untried where it
# cannot, UserError where they differ. tokenizer: of the model.
Serve = Callable[[Merged, list[list[int]], object], str]


class Arrow(NamedTuple):
    """One arrow: whether it holds, and what was found or why it was not tried."""

    name: str
    state: str
    said: str


class Untried(Exception):
    """Why an arrow is not tried: nothing is wrong, as far as is known."""


@dataclass
class Walk:
    """Tries arrows; once one is broken, no other is, for each builds on those before."""

    arrows: list[Arrow] = field(default_factory=list)

    @property
    def broken(self) -> Arrow | None:
        """The first arrow that is broken."""
        return next((arrow for arrow in self.arrows if arrow.state == BROKEN), None)

    def step(self, name: str, call: Callable[[], str]) -> None:
        """Try an arrow, whose call says what it has found, raises UserError when it breaks, and Untried."""
        try:
            if self.broken:
                raise Untried(f"`{self.broken.name}` is broken")
            state, said = OK, call()
        except (Untried, NoRoom) as why:
            state, said = NOT, str(why)
        except UserError as error:
            state, said = BROKEN, str(error)
        except Exception as error:
            if (failed := failed_write(error)) is None:
                raise
            state, said = NOT, f"cannot write {failed.filename or 'a file'}: {failed.strerror}"
        self.arrows.append(Arrow(name, state, said))


def near(found: torch.Tensor, wanted: torch.Tensor, limit: float, what: str) -> str:
    """The relative difference of logits as a word. Raises UserError above the limit. what: they are, and should be."""
    difference = relative_difference(found, wanted)
    if not difference <= limit:  # NaN too
        raise UserError(f"{what}: the logits differ by {difference:.1e}, relative (limit {limit:g}).")
    return f"{difference:.1e}"


def same_bits(one: Path, other: Path) -> int:
    """How many tensors two files of adapters share, which are all but frozen weights of the base, stored or not.

    Raises UserError for one that differs.
    """
    from safetensors import safe_open

    with safe_open(one, framework="pt") as first, safe_open(other, framework="pt") as second:
        keys, others = ({key for key in file.keys() if not key.endswith(FROZEN)} for file in (first, second))  # noqa: SIM118
        if lone := keys ^ others:
            raise UserError(f"{one} and {other}: {min(lone)} is in one only.")
        for key in sorted(keys):
            if not torch.equal(first.get_tensor(key), second.get_tensor(key)):
                raise UserError(f"{one} and {other}: {key} is not the same.")
        return len(keys)


def served(model: str | Path, merged: Callable[[list[list[int]]], Merged], serve: Serve | None) -> str:
    """What an engine says of the merged model, which is made for prompts. Raises as a Serve."""
    if serve is None:
        raise Untried("--no-serve")
    prompts = logits.prompts(model)
    return serve(merged(prompts), prompts, load_tokenizer(model))


@contextmanager
def room() -> Iterator[Path]:
    """A folder for what is written to be looked at, which goes at the end; TMPDIR says where."""
    with tempfile.TemporaryDirectory(prefix="pissa-repro-verify-") as folder:
        yield Path(folder)
