"""A residual model with its initial adapter, in the folders in which PiSSA and LoftQ publish them.

OUT/ is a model folder with the frozen base quantize(W - s B0 A0), dequantized, in the place of every target weight W,
and OUT/<method>_init/ a PEFT adapter with A0 and B0. Both together are the model that they were made from. A file of
weights is made and written tensor by tensor, and its factors are kept before the next one is read.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from pissa_repro import methods, quantizers
from pissa_repro.adapters import released_card
from pissa_repro.adapters.folder import ADAPTER, CONFIG
from pissa_repro.adapters.released_plan import Plan, adapter_config
from pissa_repro.linalg.gram import frobenius
from pissa_repro.model import streamed, whole
from pissa_repro.model.factors import BASE, FORMAT, USUAL, alpha_of, product, scaling
from pissa_repro.model.header import header
from pissa_repro.model.keys import PREFIX
from pissa_repro.model.load import default_device
from pissa_repro.model.patterns import patterns
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.lock import alone
from pissa_repro.runtime.progress import track
from pissa_repro.runtime.provenance import provenance, versions
from pissa_repro.runtime.record import atomic, read_json, resumed_folder, sha256, write_json
from pissa_repro.runtime.record_types import ResidualFacts, StartFacts
from pissa_repro.sources.fetched import base_of

log = logging.getLogger(__name__)
# The starts of a module's weight (out, in), one for each spec (starts/make.py, start_modules).
Starts = Callable[[str, torch.Tensor], Iterator[tuple[methods.Start, StartFacts]]]
WORST = ("equality_error", "excess", "rounding", "reload")  # facts whose largest value the record says


def write(plan: Plan, starts: Starts) -> list[str]:
    """Make and write what is not there from a run that was stopped; returns what is to be said of it, a line each.

    Raises UserError as the starts do, for values that the dtype cannot hold, and where another process writes to OUT.
    """
    asked, started, lines = plan.asked, time.perf_counter(), list[str]()
    with alone(asked.out, "writing"), resumed_folder(asked.out, plan.spec()) as (unfinished, notes):
        folders = [unfinished / name for name in plan.folders]
        for folder in folders:
            (folder / plan.init).mkdir(parents=True, exist_ok=True)
        left = [shard for shard in plan.shards if not _note(notes, shard).is_file()]
        if len(left) < len(plan.shards):
            log.info("%d of %d files are there already", len(plan.shards) - len(left), len(plan.shards))
        _Walk(plan, starts, left).write(folders, notes)
        facts = [read_json(_note(notes, shard)) for shard in plan.shards]
        for number, name in enumerate(plan.folders):
            record = _record(plan, number, [of_shard[number] for of_shard in facts], started)
            _finish(plan, number, folders[number], notes, record)
            lines += [f"{asked.out / name}: {line}" for line in released_card.said(record)]
    return lines


def _note(notes: Path, shard: whole.Shard) -> Path:
    """The facts of a shard's modules, for each spec; there when all else of the shard is."""
    return notes / f"{shard.source.name}.json"


def _part(notes: Path, shard: whole.Shard, number: int) -> Path:
    """The factors of a shard's modules, of one spec."""
    return notes / f"{shard.source.name}.{number}.safetensors"


class _Walk:
    """Makes the residuals of one shard after the other, and keeps the factors and facts of one."""

    def __init__(self, plan: Plan, starts: Starts, left: Sequence[whole.Shard]):
        self.plan, self.starts, self.left, self.specs = plan, starts, left, plan.asked.specs
        total = sum(f"{name}.weight" in shard.places for shard in left for name in plan.modules)
        self.steps = track(range(total), f"decompose {self.specs[0]['method']}", total)

    def write(self, folders: list[Path], notes: Path) -> None:
        """Every shard into the folders, of each spec one, and its factors and facts into the notes."""
        for shard in self.left:
            self.factors: list[dict[str, torch.Tensor]] = [{} for _ in self.specs]
            self.facts: list[dict[str, Any]] = [{"offset": None, "modules": {}} for _ in self.specs]
            places = {name: shard.places.get(f"{name}.weight") for name in self.plan.modules}
            changes = {name: partial(self.residuals, name, place) for name, place in places.items() if place}
            whole.write_shard(shard, folders, changes, self.plan.transposed)
            for number, made in enumerate(self.factors):
                entries = {k: streamed.Entry("F32", tuple(made[k].shape), partial(made.__getitem__, k)) for k in made}
                if made:
                    streamed.write(_part(notes, shard, number), entries)
            write_json(_note(notes, shard), self.facts)
        next(self.steps, None)  # ends the bar

    def residuals(self, name: str, place: streamed.Place, weight: torch.Tensor) -> Iterator[torch.Tensor]:
        """What is stored for a module, (out, in) in the dtype of its place, of one spec after the other."""
        next(self.steps)
        weight, peft_name = weight.to(default_device()), f"{PREFIX}{self.plan.modules[name]}"
        for number, (start, facts) in enumerate(self.starts(name, weight)):
            spec = self.specs[number]
            if start.trains != USUAL:
                raise UserError(
                    f"--method {spec['method']}: {' and '.join(start.trains)} train, which other trainers do not know: "
                    "they train A and B. Take --factors."
                )
            s = scaling(spec["alpha"], spec["rank"], spec["rslora"])
            offset = None if start.taken is None else product(*start.taken, s)
            base = quantizers.base_weight(weight, offset, spec["quant"])
            stored = whole.cast(base, place, f"{name}.weight")
            self.facts[number]["modules"][name] = {**facts, **_stored(weight, base, stored, spec["quant"])}
            self.facts[number]["offset"] = start.offset if isinstance(start.offset, str | None) else "own"
            for side, factor in (("A", start.A), ("B", start.B)):
                self.factors[number][f"{peft_name}.lora_{side}.weight"] = factor.cpu()
            yield stored
            del offset, base, stored  # before the next start is made


def _stored(weight: torch.Tensor, base: torch.Tensor, stored: torch.Tensor, quant: str) -> ResidualFacts:
    """How far what is stored is from the frozen base, over |W|; also once the quantizer has had it again."""
    size = frobenius(weight).item() or 1.0

    def copied() -> torch.Tensor:
        return stored.to(base.dtype, copy=True)

    facts: ResidualFacts = {"rounding": frobenius(copied().sub_(base)).item() / size}
    if quant != "none":
        again = quantizers.roundtrip(copied(), quant, spare=True)
        facts["reload"] = frobenius(again.sub_(base)).item() / size
    return facts


def _worst(facts: list[dict[str, float | None]]) -> dict[str, float | None]:
    """The largest of each fact over the modules; None where it was not measured."""
    return {key: max((v for f in facts if (v := f.get(key)) is not None), default=None) for key in WORST}


def _record(plan: Plan, number: int, shards: list[dict[str, Any]], started: float) -> dict[str, Any]:
    """What init.json says. shards: the notes of each on this spec."""
    base = {**base_of(plan.asked.base), "name": plan.base_id}
    if plan.base_id != plan.asked.base["name"]:
        base["commit"] = None
    facts = {name: fact for shard in shards for name, fact in shard["modules"].items()}
    offset = next((shard["offset"] for shard in shards if shard["offset"]), None)
    return {
        "spec": plan.asked.specs[number], "base": base, "offset": offset, "dtype": plan.asked.dtype,
        **_worst(list(facts.values())), "modules": facts, "solver_seed": 0, "provenance": provenance(started),
    }  # fmt: skip


def _finish(plan: Plan, number: int, folder: Path, notes: Path, record: dict[str, Any]) -> None:
    """Write what is not weights, and the adapter, whose tensors are read and written one at a time."""
    init, spec = folder / plan.init, plan.asked.specs[number]
    whole.write_beside(plan.asked.base["path"], [folder], plan.shards)
    entries = {}
    for part in filter(Path.is_file, (_part(notes, shard, number) for shard in plan.shards)):
        for key, tensor in header(part).items():
            entries[key] = streamed.Entry(tensor.dtype, tensor.shape, partial(_tensor, part, key))
    streamed.write(init / ADAPTER, entries)
    own = {plan.modules[name]: facts["rank"] for name, facts in record["modules"].items() if "rank" in facts}
    write_json(init / CONFIG, _with_ranks(adapter_config(plan, spec), own))
    write_json(init / "init.json", record)
    write_json(init / BASE, {**_belongs(record), "adapter_sha256": sha256(init / ADAPTER)})
    with atomic(folder / "README.md") as file:
        file.write(released_card.text(plan.asked.base["path"], plan.init, record))


def _with_ranks(config: dict[str, Any], ranks: dict[str, int]) -> dict[str, Any]:
    """The config of an adapter with modules, by the model's names, of a rank of their own and the usual s."""
    rslora = config["use_rslora"]
    s = scaling(config["lora_alpha"], config["r"], rslora)
    alphas = {name: alpha_of(s, rank, rslora) for name, rank in ranks.items()}
    return config | patterns(config, ranks, alphas)


def _tensor(path: Path, key: str) -> torch.Tensor:
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(key)


def _belongs(record: dict[str, Any]) -> dict[str, Any]:
    """What base.json says, as that of a folder of factors."""
    spec = record["spec"]
    kept = {"offset": record["offset"], "quant": spec["quant"], "method": spec["method"]}
    s = scaling(spec["alpha"], spec["rank"], spec["rslora"])
    return {**record["base"], **kept, "scaling": s, "format": FORMAT, "versions": versions()}
