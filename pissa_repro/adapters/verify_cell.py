"""The arrows of a trained cell, and those of its start."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pissa_repro.adapters import cells, convert, export, exportable, folder, logits, trained
from pissa_repro.adapters.arrows import NOT, START_RECORD, Serve, Untried, near, room, same_bits, served
from pissa_repro.adapters.parts import Parts
from pissa_repro.model import checkpoint, classes, factors
from pissa_repro.model.adapter import attach
from pissa_repro.model.architecture import CLASSIFICATION
from pissa_repro.model.base import cast, set_base
from pissa_repro.model.checks import logits as logits_of
from pissa_repro.model.checks import relative_difference
from pissa_repro.model.load import load_base
from pissa_repro.model.merged import merged_model
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json
from pissa_repro.runtime.record_types import ModelRecord
from pissa_repro.training.cell import START_UP, verified

Steps = list[tuple[str, Callable[[], str]]]
WHOLE = "whole weights were trained, there are no factors"


def same_weights(base: ModelRecord) -> str:
    """A sentence on a base whose files are what its record says. Raises UserError for others."""
    found = checkpoint.fingerprint(base["path"])
    if found != base["fingerprint"]:
        raise UserError(
            f"{base['path']}: its weights are {found[:12]}, the record of {base['name']} says "
            f"{base['fingerprint'][:12]}: another revision, size or dtype, or changed since."
        )
    return f"{base['name']} {found[:12]}, {export.stored_dtype(base['path'])}, as recorded"


def start_up(
    start: Path, base: ModelRecord, quant: str, dtype: str, lora: dict[str, Any], head: classes.Head | None = None
) -> str:
    """How far a start on its base is from the untouched model, by logits. Raises UserError above START_UP if plain."""
    prompts, model = logits.prompts(base["path"]), load_base(base["path"], head=head)
    lora = classes.in_training(model, lora) if head else lora
    untouched = logits_of(model, prompts)
    set_base(model, factors.load(start, base), quant, dtype, pack=False)
    cast(model.parameters(), dtype)
    started = logits_of(attach(model.float(), start, lora), prompts)
    record = read_json(start / START_RECORD) if (start / START_RECORD).is_file() else {}
    weights = f"weights within {record['equality_error']:.1e} of W, " if record else ""
    if moves := record.get("moves"):
        return f"{weights}logits moved by {relative_difference(started, untouched):.1e}: {moves}"
    if quant != "none" or dtype != "float32":
        return f"{weights}logits moved by {relative_difference(started, untouched):.1e}: {quant}, {dtype}"
    return f"{weights}logits within {near(started, untouched, START_UP, f'{start} on its base')} of the model's"


class StartWalk:
    """A folder of initial factors."""

    def __init__(self, path: Path, base: ModelRecord):
        self.path, self.base = path, base

    def steps(self) -> Steps:
        """Its arrows."""
        return [("save", self.save), ("load", self.load), ("init", self.init)]

    def save(self) -> str:
        return f"factors as they were made ({factors.sha256(self.path)[:12]})"

    def load(self) -> str:
        factors.load(self.path, self.base)
        return same_weights(self.base)

    def init(self) -> str:
        return start_up(self.path, self.base, factors.belongs_of(self.path)["quant"], "float32", {})


class CellWalk:
    """A trained cell. Its logits are measured once and kept; one model is in memory at a time."""

    def __init__(self, path: Path, start: Path | None, model: Path | None, serve: Serve | None):
        self.cell = replace(cells.find(path, model), start=start)
        self.serve_by, self.known = serve, export.Known(torch.empty(0), 0.0)

    def steps(self) -> Steps:
        """Its arrows."""
        return [
            ("save", self.save), ("load", self.load), ("init", self.init), ("train state", self.train),
            ("merge", self.merge), ("export", self.export), ("convert", self.convert), ("serve", self.serve),
        ]  # fmt: skip

    def save(self) -> str:
        """The start is what was made, and what the training began with."""
        wanted = self.cell.record["start_sha256"]
        if wanted is None:
            raise Untried(WHOLE)
        self.cell = replace(self.cell, start=self.cell.start or cells.start_of(self.cell))
        found = factors.sha256(self._start)
        if found != wanted:
            raise UserError(f"{self._start}: is {found[:12]}, the training began with {wanted[:12]}.")
        return f"the start as it was made, and as the training had it ({found[:12]})"

    def load(self) -> str:
        cells.refuse_other_base(self.cell)
        if self.cell.start is not None:
            factors.load(self.cell.start, self.cell.model)
        return same_weights(self.cell.model)

    def init(self) -> str:
        if self.cell.start is None:
            raise Untried(WHOLE)
        spec = self.cell.spec
        settings = spec["quant"], spec["settings"]["dtype"], spec["lora"], self.cell.head
        return start_up(self.cell.start, self.cell.model, *settings)

    def train(self) -> str:
        inside = None if self.cell.start is None else factors.trained_factors(self.cell.trained)
        belongs = factors.belongs_of(inside) if inside else {}
        found = verified(self.cell.trained, self.cell.start)
        if inside and self.cell.start:
            if belongs["start"] != factors.sha256(self.cell.start):
                raise UserError(f"{inside}: was trained from another start than {self.cell.start}.")
            factors.sha256(inside)
        return f"{len(found)} files of trained/ as the training left them"

    def merge(self) -> str:
        prompts = logits.prompts(self.cell.model["path"])
        made = merged_model(self.cell.whole, self.cell.model, prompts)
        self.known = export.known_of(made)
        effect, error = made.checks["training_effect"], made.checks["merge_error"]
        return f"logits moved by {effect:.1e} in training, by {error:.1e} in merging"

    def export(self) -> str:
        """The forms that other tools load, against the trained cell; a quantized base only as it was trained on."""
        if self.cell.start is None:
            found = logits.of(self.cell.trained, None, logits.prompts(self.cell.model["path"]))
            limit = export.allowed(export.stored_dtype(self.cell.trained))
            return f"trained/ as transformers loads it: {near(found, self.known.logits, limit, str(self.cell.trained))}"
        base = None if self.cell.spec["quant"] == "none" else "trained"
        forms, said = {"merged": base, "residual": None}, []
        if (whole := Parts(self.cell.left).whole) and not self.cell.head:
            del forms["merged"]
            said = [f"merged: {NOT}, no place for biases and whole modules that were trained ({len(whole)} tensors)."]
        if trained.no_plain(self.cell.trained, self.cell.start) is None:
            forms = {"lora": None, **forms}
        for form, on in forms.items():
            with room() as place:
                lines = export.export(exportable.Asked(self.cell, form, place / "out", on), self.known)
            said.append(f"{form}: {lines[-1]}")
        return " ".join(said)

    def convert(self) -> str:
        """What trained/ holds for others: by logits; the same as `pissa convert` makes; and back, bit by bit."""
        if self.cell.start is None:
            raise Untried(WHOLE)
        if why := trained.no_plain(self.cell.trained, self.cell.start):
            raise Untried(f"trained/ holds no plain LoRA: {why}")
        base, dtype = Path(self.cell.model["path"]), self.cell.spec["settings"]["dtype"]
        found = logits.of(base, self.cell.trained, logits.prompts(base))
        how = near(found, self.known.logits, export.allowed(dtype), f"{self.cell.trained} on the untouched model")
        return f"trained/ in PEFT within {how}; {self._round_trip()}"

    def _round_trip(self) -> str:
        """From the adapter and its start to trained/, and back to that adapter."""
        if factors.belongs_of(self._start)["offset"] == "own":
            return "what was taken out of W is not the start, which `pissa convert` takes"
        with room() as place:
            raw, start, lora, back = (place / name for name in ("raw", "start", "lora", "back"))
            export.export(exportable.Asked(self.cell, "peft-init", start))
            export.write_raw(self.cell, raw)
            convert.convert(convert.Asked(raw, start, lora))
            count = same_bits(lora / folder.ADAPTER, self.cell.trained / folder.ADAPTER)
            if factors.belongs_of(self._start)["offset"] is None:
                return f"`pissa convert` gives the same bits ({count} tensors)"
            convert.convert(convert.Asked(lora, start, back, to="pissa"))
            same_bits(back / folder.ADAPTER, raw / folder.ADAPTER)
        return f"`pissa convert` and back give the same bits ({count} tensors)"

    def serve(self) -> str:
        if self.cell.head and CLASSIFICATION.no_vllm:
            raise Untried(CLASSIFICATION.no_vllm)
        made = partial(merged_model, self.cell.whole, self.cell.model, device="cpu")
        return served(self.cell.model["path"], made, self.serve_by)

    @property
    def _start(self) -> Path:
        assert self.cell.start is not None
        return self.cell.start
