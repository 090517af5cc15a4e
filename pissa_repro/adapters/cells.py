"""A trained cell on disk: its record, its factors, the start and the base that these belong on."""

from dataclasses import dataclass, replace
from pathlib import Path

from pissa_repro.adapters.cell_card import Trained
from pissa_repro.model import factors
from pissa_repro.model.classes import Head, head_of
from pissa_repro.model.merged import TrainedCell
from pissa_repro.plan.adopted import ELSEWHERE
from pissa_repro.plan.bases import UNTRAINED
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json
from pissa_repro.runtime.record_types import ModelRecord, TrainRecord
from pissa_repro.runtime.specs import TrainSpec
from pissa_repro.sources.fetched import stored_model
from pissa_repro.training import diverged
from pissa_repro.training.cell import verified


@dataclass(frozen=True)
class StoredCell:
    """A cell that was trained. start: the folder of its initial factors, None without; label: its model's name."""

    folder: Path
    record: TrainRecord
    start: Path | None
    model: ModelRecord
    label: str

    @property
    def spec(self) -> TrainSpec:
        """What the training was asked."""
        return self.record["spec"]

    @property
    def trained(self) -> Path:
        """What the training has left."""
        return paths.Cell(self.folder).trained

    @property
    def left(self) -> Trained:
        """The same as the training knew it at its end."""
        return Trained(self.trained, self.start, self.model, self.folder.name, self.label)

    @property
    def head(self) -> Head | None:
        """Of a cell that gives classes."""
        return head_of(self.trained, self.spec)

    @property
    def whole(self) -> TrainedCell:
        """The cell as model.merged_model takes it."""
        return TrainedCell(self.spec, self.start, self.trained)


def read(folder: Path, start: Path | None = None, model: Path | None = None) -> StoredCell:
    """Read results/cells/<model>/<data>/<cell>, or its trained/; start and base are found by their content.

    start: the folder of the initial factors, and model: the record of the base, for a cell that lies elsewhere.
    Raises UserError where a part is missing, or is not what the cell was trained from.
    """
    cell = find(folder, model)
    refuse_other_base(cell)
    if cell.record["start_sha256"] is not None:
        cell = replace(cell, start=start or start_of(cell))
    verified(cell.trained, cell.start)
    return cell


def find(folder: Path, model: Path | None = None) -> StoredCell:
    """The cell by its record and that of its base, without its start; no weight is looked at. Raises as `read`."""
    folder = folder.resolve()
    files = paths.Cell(folder)
    if folder.name in (factors.TRAINED, files.trained.name) and not files.train.is_file():
        return find(folder.parent, model)
    if not files.train.is_file() or not files.trained.is_dir():
        raise UserError(f"CELL {folder}: not a trained cell (train.json and trained/): results/cells/MODEL/DATA/CELL.")
    record: TrainRecord = read_json(files.train)
    diverged.refuse(files.trained)
    if record.get("trained") == ELSEWHERE:
        raise UserError(f"CELL {folder}: was {ELSEWHERE} and has no factors of ours. Take the adapter's own folder.")
    if record.get("trained") == UNTRAINED:
        raise UserError(f"CELL {folder}: is the base as it is ({UNTRAINED}). Take the model's own folder.")
    results, label = _home(folder)
    place = model or paths.model(label, results)
    if not place.is_file():
        raise UserError(f"CELL {folder}: the record of its base model is not at {place}; give it with --model.")
    return StoredCell(folder, record, None, stored_model(place), place.stem)


def refuse_other_base(cell: StoredCell) -> None:
    """Raise UserError where the record of the base is not that of the weights that the cell was trained from."""
    base, model = cell.record["base"], cell.model
    if model["fingerprint"] != base["fingerprint"]:
        raise UserError(
            f"CELL {cell.folder}: was trained from {base['name']}, {cell.label}.json is the record of other weights "
            f"({model['path']})."
        )


def start_of(cell: StoredCell) -> Path:
    """The start in the same results with the hash that the cell's training has recorded. Raises UserError for none."""
    results, label = _home(cell.folder)
    starts = paths.starts(results) / label
    for base in sorted(starts.glob(f"*/{factors.BASE}")):
        if factors.belongs_of(base.parent).get("sha256") == cell.record["start_sha256"]:
            return base.parent
    raise UserError(
        f"CELL {cell.folder}: none of the starts in {starts} is the one it was trained from; give it with --init."
    )


def _home(folder: Path) -> tuple[Path, str]:
    """The results that a cell's folder is in, and the label of its model."""
    return folder.parents[3] if len(folder.parents) > 3 else folder, folder.parents[1].name
