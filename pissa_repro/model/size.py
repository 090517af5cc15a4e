"""How large a model is, by the headers of its files, without loading it."""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pissa_repro.model.folder import weight_files
from pissa_repro.model.header import header

Shape = tuple[int, int]  # (out, in)


@dataclass(frozen=True)
class Size:
    """All parameters of a model, those of its blocks, how many these are, and the matrices of each type and shape."""

    parameters: int
    matrices: Counter[tuple[str, Shape]]
    inside: int
    blocks: int

    def outside(self) -> int:
        """Parameters of no block: the embedding and the head."""
        return self.parameters - self.inside

    def linear(self) -> int:
        """Parameters of the layers' matrices, which are what is quantized."""
        return sum(count * out * into for (_, (out, into)), count in self.matrices.items())

    def factors(self, rank: int, targets: Collection[str] | None = None) -> int:
        """Parameters of A and B of a rank on the matrices of these types; None: of all."""
        sides = (
            (count, sum(shape)) for (kind, shape), count in self.matrices.items() if targets is None or kind in targets
        )
        return sum(rank * count * both for count, both in sides)


def of_folder(folder: Path) -> Size:
    """The size of a model folder; what has a number in its name is a block's, which ends with the first.

    Raises UserError where the folder or one of its files is none of a model.
    """
    matrices, blocks, outside = Counter[tuple[str, Shape]](), Counter[str](), 0
    for file in weight_files(folder):
        for name, tensor in header(file).items():
            count = 1
            for side in tensor.shape:
                count *= side
            if (block := re.match(r"(.*?\.)?\d+(?=\.)", name)) is None:
                outside += count
                continue
            blocks[block[0]] += count
            kind = name.removesuffix(".weight").rpartition(".")[2]
            if len(tensor.shape) == 2:
                matrices[kind, (tensor.shape[0], tensor.shape[1])] += 1
    inside = blocks.total()
    return Size(outside + inside, matrices, inside, len(blocks))
