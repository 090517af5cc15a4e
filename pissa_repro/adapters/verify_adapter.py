"""The arrows of an adapter that PEFT, TRL or the released code has trained."""

from contextlib import ExitStack
from pathlib import Path

import torch

from pissa_repro.adapters import bases, convert, export, folder, logits
from pissa_repro.adapters.arrows import Serve, Untried, near, room, same_bits, served
from pissa_repro.adapters.folder import Adapter
from pissa_repro.adapters.pair import Pair, Survey
from pissa_repro.adapters.verify_cell import Steps
from pissa_repro.model import factors
from pissa_repro.model.checks import logits as logits_of
from pissa_repro.model.checks import relative_difference
from pissa_repro.model.merged import MERGED, Merged
from pissa_repro.model.skeleton import skeleton
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json
from pissa_repro.runtime.record_types import ModelRecord

NO_START = "its start is not given (--init)"


class AdapterWalk:
    """An adapter, the untouched model, and, where its start took something out, that start and the residual."""

    def __init__(self, path: Path, base: ModelRecord, init: Path | None, residual: Path | None, serve: Serve | None):
        self.path, self.base, self.start, self.residual, self.serve_by = path, base, init, residual, serve
        self.on, self.wanted = residual or Path(base["path"]), torch.empty(0)
        self.found: Survey | None = None

    def steps(self) -> Steps:
        """Its arrows."""
        return [
            ("save", self.save), ("load", self.load), ("init", self.init), ("train state", self.train),
            ("convert", self.convert), ("merge", self.merge), ("serve", self.serve),
        ]  # fmt: skip

    def save(self) -> str:
        """The files are whole: every factor with its partner, of the config's rank."""
        read = [folder.read(path, place) for path, place in ((self.path, "DIR"), (self.start, "--init")) if path]
        return " ".join(f"{one.path.name}: {len(one.modules)} modules of rank {one.rank}." for one in read)

    def load(self) -> str:
        """PEFT has a place for all of it on the model that it was trained on."""
        self._refuse_base()
        skeleton(self.base["path"])
        self.wanted = logits.of(self.on, self.path, self._prompts)
        return f"on {self.on.name}, which has all {len(self._adapter.modules)} modules"

    def _refuse_base(self) -> None:
        """Raise UserError where the start says another base."""
        record = self.start / factors.BASE if self.start else None
        if record is None or not record.is_file():
            return
        if (wanted := read_json(record)["fingerprint"]) != self.base["fingerprint"]:
            raise UserError(
                f"--base {self.base['name']}: is {self.base['fingerprint'][:12]}, the start was made of {wanted[:12]}: "
                "another revision, size or dtype."
            )

    def init(self) -> str:
        """The start on its model is the untouched one, unless nothing was taken out of that for it."""
        if self.start is None:
            raise Untried(NO_START)
        untouched = logits.of(Path(self.base["path"]), None, self._prompts)
        started = logits.of(self.on, self.start, self._prompts)
        if bases.takes_nothing(folder.read(self.start, "--init")):
            return f"logits moved by {relative_difference(started, untouched):.1e}: nothing was taken out of W for it"
        limit = export.allowed(export.stored_dtype(self.on))
        what = f"{self.start.name} on {self.on.name} is not {self.base['name']}"
        if self.residual is None:
            what += " (--residual says which model it was trained on)"
        return f"logits within {near(started, untouched, limit, what)} of the untouched model's"

    def train(self) -> str:
        """It was trained from that start, and is no converted one; or it began as a plain LoRA."""
        if self.start is None:
            named = self._adapter.config.get("init_lora_weights")
            if isinstance(named, str) and named.startswith(folder.TAKING):
                raise UserError(f"{self.path}: was started as {named}, and {NO_START}.")
            raise Untried(NO_START)
        with ExitStack() as opened:
            pair = Pair(self._adapter, folder.read(self.start, "--init"), opened)
            self.found = convert.examined(pair, convert.Asked(self.path, self.start, Path()))
        if not self.found.moved:
            raise UserError(f"{self.path}: its A and B are those of {self.start}: it was not trained.")
        return f"trained from {self.start.name} (cosine {self.found.cosine:.3f})"

    def convert(self) -> str:
        """As a plain LoRA on the untouched model it gives the same logits; and back, bit by bit."""
        if self.start is None or self.found is None:
            raise Untried(NO_START)
        start = folder.read(self.start, "--init")
        if quant := bases.takes_nothing(start) and bases.quantization(self._adapter, start):
            raise Untried(f"it was trained on the model quantized as {quant}, with which it is a plain LoRA already")
        with room() as place:
            lora, back = place / "lora", place / "back"
            convert.convert(convert.Asked(self.path, self.start, lora))
            found = logits.of(Path(self.base["path"]), lora, self._prompts)
            limit = export.allowed(export.stored_dtype(self.on))
            how = near(found, self.wanted, limit, f"{self.path.name}, converted, on the untouched model")
            if not self.found.taken:
                return f"a plain LoRA already, logits within {how}"
            convert.convert(convert.Asked(lora, self.start, back, to="pissa"))
            same_bits(back / folder.ADAPTER, self._adapter.weights)
        return f"as a plain LoRA within {how}; back, the same bits"

    def merge(self) -> str:
        """Merging keeps the logits."""
        made = self._merged(self._prompts)
        return f"logits moved by {made.checks['merge_error']:.1e} in merging"

    def _merged(self, prompts: list[list[int]]) -> Merged:
        """Merged by PEFT on the CPU. Raises UserError where that changes the logits."""
        before = logits.of(self.on, None, prompts)
        loaded = logits.load(self.on, self.path)
        after = logits_of(loaded, prompts)
        model = loaded.merge_and_unload().to("cpu")
        merged = logits_of(model, prompts)
        near(merged, after, MERGED, f"{self.path.name}, merged")
        return Merged(model, {"merge_error": relative_difference(merged, after)}, merged, before)

    def serve(self) -> str:
        return served(self.on, self._merged, self.serve_by)

    @property
    def _adapter(self) -> Adapter:
        return folder.read(self.path, "DIR")

    @property
    def _prompts(self) -> list[list[int]]:
        return logits.prompts(self.base["path"])
