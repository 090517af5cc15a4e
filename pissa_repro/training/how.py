"""How a training runs: what changes its results no more than rounding, is no part of its spec, and is recorded."""

from typing import Any, NamedTuple

from pissa_repro.runtime import processes

AUTO = processes.AUTO
MICRO = 4  # sequences; released code, and on CPUs the fastest (benchmarks/train.py)
YES, NO = ("yes", "no")
ON_CARDS = "cards"


class How(NamedTuple):
    """micro: sequences in a forward pass; None for what a trial finds. sharding: of processes.SHARDING.

    checkpointing: whether activations of a block are computed again instead of kept; None: on cards. compiled: whether
    the blocks of the model run through torch.compile.
    """

    micro: int | None = MICRO
    sharding: str = processes.NONE
    checkpointing: bool | None = None
    compiled: bool = False

    def recorded(self, checkpointing: bool) -> dict[str, Any]:
        """What a record says of it, beside the batch. checkpointing: whether it was so."""
        said = {
            "sharding": self.sharding if self.sharding != processes.NONE else None,
            "gradient_checkpointing": checkpointing or None,
            "compile": self.compiled or None,
        }
        return {key: value for key, value in said.items() if value is not None}


def number(micro: int | str | None) -> int:
    """Sequences in a forward pass, of what tries none; AUTO and nothing are the usual number."""
    return micro if isinstance(micro, int) else MICRO
