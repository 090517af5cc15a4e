"""How large a model of a config is: by its files where they are at hand, else by known shapes.

The shapes of the models of shipped configs are data, reference/model_shapes.yaml.
"""

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pissa_repro.model.size import Shape, Size, of_folder
from pissa_repro.plan.config import ROOT
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json

SHAPES = ROOT / "reference" / "model_shapes.yaml"
EMBEDDED = ROOT / "pissa_repro" / "embedded" / "model"


def size_of(sweep: Sweep, model: str, results: Path) -> Size | None:
    """The size of a model of the config; None where neither its files nor its shapes are known here."""
    source = sweep.config["models"][model]
    record = paths.model(model, results)
    folder = EMBEDDED if source.get("path") == "embedded" else Path(source.get("path", ""))
    if record.is_file() and "path" in (found := read_json(record)):
        folder = Path(found["path"])
    try:
        return of_folder(folder)
    except (UserError, OSError):
        known = _known().get(source.get("hub", ""))
        return _of_shapes(known) if known else None


@cache
def _known() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(SHAPES.read_text(encoding="utf-8"))


def _of_shapes(given: dict[str, Any]) -> Size:
    """A Llama of these shapes."""
    wide, inner, layers = given["hidden_size"], given["intermediate_size"], given["num_hidden_layers"]
    queries, keys = given["heads"] * given["head_dim"], given["kv_heads"] * given["head_dim"]
    one: dict[str, Shape] = {
        "q_proj": (queries, wide), "k_proj": (keys, wide), "v_proj": (keys, wide), "o_proj": (wide, queries),
        "gate_proj": (inner, wide), "up_proj": (inner, wide), "down_proj": (wide, inner),
    }  # fmt: skip
    norms = 2 * wide + (2 * given["head_dim"] if given.get("qk_norm") else 0)
    inside = layers * (norms + sum(out * into for out, into in one.values()))
    embeddings = given["vocab_size"] * wide * (1 if given["tied"] else 2)
    return Size(inside + embeddings + wide, Counter(dict.fromkeys(one.items(), layers)), inside, layers)
