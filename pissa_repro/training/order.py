"""The order of rows inside an effective batch: by length, so that a micro-batch carries little padding.

Which rows a step learns from is the seed's draw, as it was. Its loss is a mean over the labels of all of them, so that
their order changes no more than the order of a sum does; and, with dropout, which of them meets which mask.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import Sampler
from transformers import Trainer


def length(example: Mapping[str, Any]) -> int:
    """Tokens of an example, of all its columns: what an encoder-decoder writes is padded, too."""
    return sum(len(column) for column in example.values() if isinstance(column, list))


class ByLength(Sampler[int]):
    """The rows of another sampler, in each effective batch the longest first.

    rows: a sampler with `set_epoch`. lengths: of each row. batch: rows of an effective batch. whole: how many rows all
    processes take at a time. The epoch's first rows make the count a multiple of it. accelerate would take them by
    itself where the last micro-batches are short, but from what is sorted already: others than without sorting.
    """

    def __init__(self, rows: Any, lengths: Sequence[int], batch: int, whole: int = 1):
        self.rows, self.lengths, self.batch, self.whole = rows, lengths, batch, whole

    def set_epoch(self, epoch: int) -> None:
        """Draw as in this epoch from now on. accelerate says it, also when it goes on from a checkpoint."""
        self.rows.set_epoch(epoch)

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.whole) * self.whole

    def __iter__(self) -> Iterator[int]:
        drawn = list(self.rows)
        filled = list(itertools.islice(itertools.cycle(drawn), len(self)))
        for first in range(0, len(filled), self.batch):
            yield from sorted(filled[first : first + self.batch], key=self.lengths.__getitem__, reverse=True)


def sort(loader: Any, lengths: Sequence[int], accumulation: int, world: int = 1) -> Any:
    """The loader, which accelerate has prepared for one of `world` processes; its effective batches are by length now.

    lengths: of each row. accumulation: micro-batches of each process in a step. An effective batch that is one
    micro-batch keeps its order: nothing would be won, and no bit of a result moves.
    """
    sampler = loader.get_sampler()
    whole = world * loader.batch_sampler.batch_size
    if accumulation * world > 1:
        loader.set_sampler(ByLength(sampler, lengths, accumulation * whole, whole if world > 1 else 1))
    return loader


def by_length(trainer: Trainer, examples: Sequence[Mapping[str, Any]]) -> None:
    """Make a trainer cut the effective batches of these examples by length. To be called once, before it trains."""
    args, drawn, lengths = trainer.args, trainer.get_train_dataloader, list(map(length, examples))

    def loader() -> Any:
        return sort(drawn(), lengths, args.gradient_accumulation_steps, args.world_size)

    trainer.get_train_dataloader = loader  # type: ignore[method-assign]
