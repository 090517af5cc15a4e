"""Quantization errors over a grid of methods, quantizations, ranks and alternations, one row per module and point."""

import json
from pathlib import Path
from typing import Any

import torch

from pissa_repro import methods
from pissa_repro.model import checkpoint
from pissa_repro.model.naming import types
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.progress import track
from pissa_repro.runtime.record import atomic, canonical, read_lines
from pissa_repro.runtime.specs import ModelStartSpec, StartSpec
from pissa_repro.runtime.study_specs import ErrorsSpec, GridPoint
from pissa_repro.starts import estimate
from pissa_repro.starts.error import Error, compared, error, plain_error, rest_of
from pissa_repro.starts.kept import Kept
from pissa_repro.starts.make import check_ranks, spectrum, start_module, weights

COLUMNS = (
    "module type layer method quant rank alternations nuclear nuclear_plain frobenius frobenius_plain reduction"
).split()


def start_spec(point: GridPoint) -> StartSpec:
    """The spec of the start at a point of the grid; alpha is the rank, as in the paper."""
    given = {"alternations": point["alternations"]}
    options = methods.options(point["method"], point["quant"], given, "studies")
    return {
        "method": point["method"],
        "options": options,
        "quant": point["quant"],
        "rank": point["rank"],
        "alpha": float(point["rank"]),
        "rslora": False,
        "seed": 0,
    }


def module_rows(name: str, weight: torch.Tensor, points: list[GridPoint], kept: Kept) -> list[dict[str, Any]]:
    """The errors of one weight (out, in) at every point of the grid."""
    whole, rows = spectrum(name, weight, kept), []
    plain: dict[str, Error] = {}
    for point in points:
        quant, spec = point["quant"], start_spec(point)
        if quant not in plain:
            plain[quant] = plain_error(weight, quant)
        start, _ = start_module(name, whole, spec)
        rows.append({"module": name, **point, **compared(error(rest_of(weight, start, spec)), plain[quant])})
    return rows


def layer(module: str) -> int:
    """The number of the layer that a module lies in; the first number of its name. Raises UserError without one."""
    number = next((int(part) for part in module.split(".") if part.isdigit()), None)
    if number is None:
        raise UserError(f"config.studies.target_modules: {module} is in no numbered layer.")
    return number


class Finished:
    """The rows of finished modules in a file of this spec and these weights, one module a line."""

    def __init__(self, path: Path, identity: str):
        self.path, self.identity = path, identity
        lines = read_lines(path) if path.is_file() else []
        same = bool(lines) and lines[0] == identity
        self.rows: dict[str, list[dict[str, Any]]] = dict(lines[1:]) if same else {}

    def add(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Keep the rows of one more module. The file is written anew: a grid has few modules, each is costly."""
        self.rows[name] = rows
        with atomic(self.path) as file:
            for line in (self.identity, *self.rows.items()):
                file.write(json.dumps(line) + "\n")


def measure_grid(folder: str, spec: ErrorsSpec, kept: Kept, scratch: Path) -> list[dict[str, Any]]:
    """The rows of a whole model. Raises UserError for a rank above the smaller side of a weight, before any work."""
    targets = spec["target_modules"] or checkpoint.projections(folder)
    shapes = checkpoint.shapes(folder, targets)
    check_ranks(shapes, [point["rank"] for point in spec["points"]])
    kinds, layers = types(shapes), {name: layer(name) for name in shapes}
    specs: list[ModelStartSpec] = [{**start_spec(point), "target_modules": targets} for point in spec["points"]]
    estimate.announce(estimate.error_cost(folder, specs))
    finished = Finished(scratch, canonical([spec, kept.folder.name]))
    for name, weight in track(weights(folder, targets), "errors", len(shapes)):
        if name not in finished.rows:
            finished.add(name, module_rows(name, weight, spec["points"], kept))
    return [row | {"type": kinds[name], "layer": layers[name]} for name in shapes for row in finished.rows[name]]
