"""How large a model is, by the headers of its files, without loading it."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pissa_repro.model.folder import weight_files
from pissa_repro.model.header import header

Shape = tuple[int, int]  # (out, in)


@dataclass(frozen=True)
class Size:
    """All parameters of a model, and how many matrices of each type and shape its layers have."""

    parameters: int
    matrices: Counter[tuple[str, Shape]]

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
    """The size of a model folder; a matrix with a number in its name is a layer's.

    Raises UserError where the folder or one of its files is none of a model.
    """
    parameters, matrices = 0, Counter[tuple[str, Shape]]()
    for file in weight_files(folder):
        for name, tensor in header(file).items():
            count = 1
            for side in tensor.shape:
                count *= side
            parameters += count
            kind = name.removesuffix(".weight").rpartition(".")[2]
            if len(tensor.shape) == 2 and any(part.isdigit() for part in name.split(".")):
                matrices[kind, (tensor.shape[0], tensor.shape[1])] += 1
    return Size(parameters, matrices)
