"""How large a model is, without loading it: by the headers of its files where they are at hand, else by known shapes.

The shapes of the models of shipped configs are data, reference/model_shapes.yaml.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pissa_repro.model.folder import weight_files
from pissa_repro.model.header import header
from pissa_repro.plan.config import ROOT
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json

SHAPES = ROOT / "reference" / "model_shapes.yaml"
EMBEDDED = ROOT / "pissa_repro" / "embedded" / "model"
Shape = tuple[int, int]  # (out, in)


@dataclass(frozen=True)
class Size:
    """All parameters of a model, and how many matrices of each type and shape its layers have."""

    parameters: int
    matrices: Counter[tuple[str, Shape]]

    def linear(self) -> int:
        """Parameters of the layers' matrices, which are what is quantized."""
        return sum(count * out * into for (_, (out, into)), count in self.matrices.items())

    def factors(self, rank: int, targets: Collection[str]) -> int:
        """Parameters of A and B of a rank on the matrices of these types."""
        sides = ((count, sum(shape)) for (kind, shape), count in self.matrices.items() if kind in targets)
        return sum(rank * count * both for count, both in sides)


def size_of(sweep: Sweep, model: str, results: Path) -> Size | None:
    """The size of a model of the config; None where neither its files nor its shapes are known here."""
    source = sweep.config["models"][model]
    record = paths.model(model, results)
    folder = EMBEDDED if source.get("path") == "embedded" else Path(source.get("path", ""))
    if record.is_file() and "path" in (found := read_json(record)):
        folder = Path(found["path"])
    try:
        return _of_files(folder)
    except (UserError, OSError):
        known = _known().get(source.get("hub", ""))
        return _of_shapes(known) if known else None


@cache
def _known() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(SHAPES.read_text(encoding="utf-8"))


def _of_files(folder: Path) -> Size:
    """By the headers of the weights' files: matrices with a number in their name, which are a layer's."""
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


def _of_shapes(given: dict[str, Any]) -> Size:
    """A Llama of these shapes."""
    wide, inner, layers = given["hidden_size"], given["intermediate_size"], given["num_hidden_layers"]
    queries, keys = given["heads"] * given["head_dim"], given["kv_heads"] * given["head_dim"]
    one: dict[str, Shape] = {
        "q_proj": (queries, wide), "k_proj": (keys, wide), "v_proj": (keys, wide), "o_proj": (wide, queries),
        "gate_proj": (inner, wide), "up_proj": (inner, wide), "down_proj": (wide, inner),
    }  # fmt: skip
    size = Size(0, Counter(dict.fromkeys(one.items(), layers)))
    embeddings = given["vocab_size"] * wide * (1 if given["tied"] else 2)
    norms = (2 * layers + 1) * wide + (2 * layers * given["head_dim"] if given.get("qk_norm") else 0)
    return Size(size.linear() + embeddings + norms, size.matrices)
