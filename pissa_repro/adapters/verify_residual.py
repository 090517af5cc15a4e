"""The arrows of a residual model with its initial adapter, as `pissa decompose` writes them."""

from pathlib import Path

from safetensors import safe_open

from pissa_repro import quantizers
from pissa_repro.adapters import export, folder, logits
from pissa_repro.adapters.arrows import START_RECORD, near
from pissa_repro.adapters.verify_cell import Steps, same_weights
from pissa_repro.linalg.gram import frobenius
from pissa_repro.model import checkpoint, factors, whole
from pissa_repro.model.checks import relative_difference
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json, sha256
from pissa_repro.runtime.record_types import ModelRecord

SLACK = 1e-6  # of |W|: what float32 rounds in another order


class ResidualWalk:
    """The residual in `path`, the adapter in `start`, and the untouched model that they were made from."""

    def __init__(self, path: Path, start: Path, base: ModelRecord):
        self.path, self.start, self.base = path, start, base
        self.record = read_json(start / START_RECORD)

    def steps(self) -> Steps:
        """Its arrows."""
        return [("save", self.save), ("load", self.load), ("init", self.init)]

    def save(self) -> str:
        """The files are whole, and the adapter is the one that was written."""
        adapter, wanted = folder.read(self.start, "DIR"), read_json(self.start / factors.BASE).get("adapter_sha256")
        if wanted is None:
            raise UserError(f"{self.start / factors.BASE}: has no adapter_sha256; decompose the model again.")
        if (found := sha256(adapter.weights)) != wanted:
            raise UserError(f"{adapter.weights}: is {found[:12]}, {wanted[:12]} was written. It was changed since.")
        tensors = whole.tensors(self.path)
        return f"{len(adapter.modules)} modules ({found[:12]}), {len(tensors)} tensors of the residual"

    def load(self) -> str:
        """The base is the one that was decomposed, and the residual has its tensors."""
        wanted = self.record["base"]["fingerprint"]
        if self.base["fingerprint"] != wanted:
            raise UserError(
                f"--base {self.base['name']}: is {self.base['fingerprint'][:12]}, the residual was made of "
                f"{self.record['base']['name'] or 'a folder'} {wanted[:12]}: another revision, size or dtype."
            )
        ours, theirs = (
            {name: one.shape for name, one in whole.tensors(place).items()} for place in (self.path, self.base["path"])
        )
        if differ := sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name)):
            raise UserError(f"{self.path}: {differ[0]} is {ours.get(differ[0])}, in the base {theirs.get(differ[0])}.")
        return same_weights(self.base)

    def init(self) -> str:
        """Residual and adapter together are the base: weight by weight, and by logits."""
        prompts, quant = logits.prompts(self.base["path"]), self.record["spec"]["quant"]
        weights = self._weights()
        untouched = logits.of(Path(self.base["path"]), None, prompts)
        started = logits.of(self.path, self.start, prompts)
        if quant != "none":
            return f"{weights}logits moved by {relative_difference(started, untouched):.1e}: {quant}"
        limit = export.allowed(export.stored_dtype(self.path))
        return f"{weights}logits within {near(started, untouched, limit, f'{self.path} with {self.start.name}')}"

    def _weights(self) -> str:
        """How far a stored weight is from quantize(W - s B0 A0), at most; one at a time. Raises UserError above."""
        if self.record["offset"] == "own":
            return "what was taken out of W is not A and B, and not stored: weights not compared, "
        spec, adapter, worst = self.record["spec"], folder.read(self.start, "DIR"), 0.0
        tensors, flipped = whole.tensors(self.path), checkpoint.transposed(self.base["path"])
        with safe_open(adapter.weights, framework="pt") as file:
            for name, weight in checkpoint.targets(self.base["path"], spec["target_modules"]):
                place = tensors[f"{name}.weight"].path
                with safe_open(place, framework="pt") as shard:
                    stored = shard.get_tensor(f"{name}.weight")
                residual = checkpoint.as_matrix(stored, name.rsplit(".", 1)[-1] in flipped, f"{name} in {place}")
                module = next(one for own, one in adapter.modules.items() if f".{own}".endswith(f".{name}"))
                size, offset = frobenius(weight).item() or 1.0, None
                if self.record["offset"]:
                    offset = factors.product(file.get_tensor(module.a), file.get_tensor(module.b), module.scaling)
                made = quantizers.base_weight(weight, offset, spec["quant"])
                missed = frobenius(residual - made).item() / size
                if not missed <= (limit := 2 * self.record["modules"][name]["rounding"] + SLACK):
                    raise UserError(
                        f"{self.path}: {name} is not what is left of W without the adapter in {self.start.name}: it "
                        f"misses by {missed:.1e} of |W| (limit {limit:.1e})."
                    )
                worst = max(worst, missed)
        return f"weights within {worst:.1e} of |W|, "
