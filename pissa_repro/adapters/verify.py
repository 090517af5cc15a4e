"""Walk the life of a cell, a start, a residual or an adapter, and say which arrow of it is the first to break."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pissa_repro.adapters import folder
from pissa_repro.adapters.arrows import START_RECORD, Serve, Walk
from pissa_repro.adapters.verify_adapter import AdapterWalk
from pissa_repro.adapters.verify_cell import CellWalk, StartWalk
from pissa_repro.adapters.verify_residual import ResidualWalk
from pissa_repro.model import factors
from pissa_repro.model import folder as model_folder
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record_types import ModelRecord


@dataclass(frozen=True)
class Asked:
    """What is walked. path: its folder; base: the record of the untouched model, for what names none by itself.

    init, residual: folders of a start and of the model that an adapter was trained on. model: the path of a cell's
    model record. serve: by an engine; None: not.
    """

    path: Path
    base: ModelRecord | None = None
    init: Path | None = None
    residual: Path | None = None
    model: Path | None = None
    serve: Serve | None = None


def verify(asked: Asked) -> Walk:
    """The walk along the folder's arrows. Raises UserError for a folder that has none, and for what it needs."""
    if not asked.path.is_dir():
        raise UserError(f"DIR {asked.path}: no such folder.")
    walk = Walk()
    for name, call in _steps(asked):
        walk.step(name, call)
    return walk


def _steps(asked: Asked) -> list[tuple[str, Callable[[], str]]]:
    """The arrows of what the folder is."""
    path = asked.path.resolve()
    if any(paths.Cell(one).train.is_file() for one in (path, path.parent, path.parent.parent)):
        _refuse(asked, "a cell", "base", "residual")
        return CellWalk(path, asked.init, asked.model, asked.serve).steps()
    if asked.base is None:
        raise UserError(f"DIR {asked.path}: no cell, so --base MODEL is needed: the untouched model.")
    if (path / factors.BASE).is_file() and (path / factors.CONFIG).is_file():
        _refuse(asked, "a start", "init", "residual", "model")
        return StartWalk(path, asked.base).steps()
    if starts := sorted(one.parent for one in path.glob(f"*_init/{START_RECORD}")):
        _refuse(asked, "a residual model", "init", "residual", "model")
        return ResidualWalk(path, starts[0], asked.base).steps()
    if (path / model_folder.CONFIG).is_file() and not (path / folder.CONFIG).is_file():
        raise UserError(f"DIR {asked.path}: a whole model; there is no arrow to try.")
    _refuse(asked, "an adapter", "model")
    return AdapterWalk(path, asked.base, asked.init, asked.residual, asked.serve).steps()


def _refuse(asked: Asked, what: str, *options: str) -> None:
    """Raise UserError for an option that means nothing here."""
    for option in options:
        if getattr(asked, option) is not None:
            raise UserError(f"--{option}: DIR {asked.path} is {what}, which needs none.")
