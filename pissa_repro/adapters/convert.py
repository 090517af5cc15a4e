"""PiSSA and its like to plain LoRA on the untouched base, and back, from the adapters' files alone.

W + dW = (W - s B0 A0) + s B A, so dW = s (B A - B0 A0) = s [B, -B0] [A; A0]: the released code's README and PEFT's
`subtract_mutated_init`. Factors are stacked, nothing is summed or rounded; they stay in their dtype.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pissa_repro.adapters import bases, card, folder, logits, stacked
from pissa_repro.adapters.folder import ADAPTER, CONFIG, TAKING, Adapter
from pissa_repro.adapters.pair import FAR, Pair, Survey, compare, ends_in_start, survey
from pissa_repro.model import naming, streamed
from pissa_repro.model.base import sharing
from pissa_repro.model.skeleton import bare
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.record import atomic, atomic_folder, refuse_existing, refuse_no_space, write_json

FORMS = ("lora", "pissa")

NOT_EXACT = (
    "Not exact: it was trained on a base quantized as {}. Load it on the full-precision base only; there it is off by "
    "the quantization error of the residual, and on a quantized base by more."
)

ON_QUANTIZED = (
    "It was trained on the base model quantized as {}, of which nothing was taken out: load it on that model quantized "
    "so."
)

TIED = (
    "Not right where {} shares its weight with the embedding (tie_word_embeddings): the start was then taken out of "
    "both. No config.json at hand tells; --check compares logits."
)


@dataclass(frozen=True)
class Asked:
    """A conversion. base: the hub id that the user gives; check: folders of residual and untouched model, or None."""

    adapter: Path
    init: Path
    out: Path
    to: str = "lora"
    base: str | None = None
    lossy: bool = False
    trust_init: bool = False
    check: tuple[Path, Path] | None = None


def convert(asked: Asked) -> list[str]:
    """Write the converted adapter's folder; returns what is to be said of it, a line each.

    Raises UserError for adapters that are not of one training, for what no plain LoRA holds, and where OUT exists.
    """
    if asked.to not in FORMS:
        raise unknown("form", asked.to, FORMS, "--to")
    refuse_existing(asked.out)
    trained, start = folder.read(asked.adapter, "ADAPTER"), folder.read(asked.init, "--init")
    quant = bases.quantization(trained, start)
    base = bases.of(asked.base, trained, start, asked.to)
    with ExitStack() as opened:
        pair = Pair(trained, start, opened)
        found = examined(pair, asked)
        inexact = quant if asked.to == "lora" and found.taken else None  # nothing taken out: a LoRA on quantize(W)
        if inexact and not asked.lossy:
            raise UserError(
                f"{start.path}: its base is quantized ({quant}). quantize(W - sB0A0) + sBA is no plain LoRA on W, nor "
                "on quantize(W): load the adapter on the base that it was trained on. With --lossy it is converted for "
                "the full-precision base, off by the quantization error."
            )
        made = stacked.config(pair, found, asked.to) | {"base_model_name_or_path": base.name, "revision": base.revision}
        entries, dropped = stacked.entries(pair, found, asked.to)
        notes = [base.said, *_outside(pair, found, asked), *_facts(pair, found, made)]
        if dropped:
            notes.append(f"Left out, since the base that it is loaded on has its own: {', '.join(dropped)}.")
        if inexact:
            notes.append(NOT_EXACT.format(quant))
        elif quant and asked.to == "lora":
            notes.append(ON_QUANTIZED.format(quant))
        _write(asked, pair, entries, made, notes)
    return notes


def _outside(pair: Pair, found: Survey, asked: Asked) -> list[str]:
    """What is to be said of a start on a head, if anything: PEFT takes it out of the embedding too where they are tied.

    Raises UserError where the config of a model at hand ties them.
    """
    models = [*bases.at_hand(pair.trained, pair.start), *(asked.check or ())]
    outside = sorted(name for name in found.taken if not naming.is_numbered(name))
    for model in models if outside else ():
        for module in sharing(bare(model), outside):
            raise UserError(
                f"{pair.trained.path}: its start was taken out of {module}, whose weight {model} shares between head "
                f"and embedding. No LoRA on {module} gives the embedding back: load the adapter on its residual only."
            )
    return [TIED.format(", ".join(outside))] if outside and not models else []


def examined(pair: Pair, asked: Asked) -> Survey:
    """What the factors say, once they are known to belong together. Raises UserError otherwise."""
    trained, start = pair.trained, pair.start
    if asked.to == "pissa":
        compare(pair, 2)
        for module in pair.names:
            if not ends_in_start(pair, module):
                raise UserError(
                    f"{trained.path}: the second half of {module} is not the start of {start.path} with a minus. Only "
                    "an adapter that was converted with this --init, and not trained since, can go back."
                )
        return Survey(moved=True, taken=set(pair.names))
    if all(ends_in_start(pair, module) for module in pair.names):
        raise UserError(f"{trained.path}: is converted already, with this --init. Load it on the untouched base.")
    compare(pair, 1)
    found = survey(pair)
    if found.taken and any(one.config.get("init_lora_weights") is False for one in (trained, start)):
        raise UserError(
            f"{start.path}: init_lora_weights is false, with which PEFT draws A and B and takes nothing out of the "
            "base: then the adapter is a plain LoRA as it is. Where it stands for a start that was taken out (PiSSA), "
            "write true in its place, in both configs."
        )
    if found.taken and found.cosine < FAR and not asked.trust_init:
        raise UserError(
            f"{trained.path} lies far from {start.path} (cosine {found.cosine:.2f}, below {FAR}): it seems to be "
            "trained from another start. If it is not, convert with --trust-init."
        )
    if not found.taken and (named := _taking(trained)):
        raise UserError(
            f"{trained.path}: was started as {named}, but the start in {start.path} takes nothing out of the base. "
            "They are not of one training."
        )
    return found


def _taking(trained: Adapter) -> str | None:
    """The name of what took something out of the base before the training, by PEFT's config or our record."""
    named, known = trained.config.get("init_lora_weights"), bases.belongs(trained)
    if isinstance(named, str) and named.startswith(TAKING):
        return named
    return str(known.get("method", known["offset"])) if known.get("offset") else None


def _facts(pair: Pair, found: Survey, made: dict[str, Any]) -> list[str]:
    """What became of the factors and of their scaling, in sentences. made: the config that is written."""
    facts = []
    if not found.moved:
        facts.append("Warning: A and B equal their start: they were not trained, and the LoRA adds nothing.")
    if not found.taken:
        return [*facts, "The start takes nothing out of the base (LoRA): the adapter is copied, at its rank."]
    after = {name: folder.module_of(made, name, old.a, old.b) for name, old in pair.trained.modules.items()}
    moved = stacked.moved(pair.trained.modules, after)
    if moved:
        return [*facts, f"The scaling of a module differs by {moved:.0e} at most (rsLoRA: sqrt(2) alpha is no float)."]
    return [*facts, "The scaling of every module is the same float as before."]


def _write(
    asked: Asked, pair: Pair, entries: dict[str, streamed.Entry], config: dict[str, Any], notes: list[str]
) -> None:
    """The folder, which appears once it is whole and, if that is asked for, its logits are right."""
    needed = sum(entry.size for entry in entries.values())
    refuse_no_space(asked.out, needed)
    with atomic_folder(asked.out) as unfinished:
        streamed.write(unfinished / ADAPTER, entries)
        write_json(unfinished / CONFIG, config)
        if asked.check:
            residual, untouched = asked.check
            models = (residual, untouched) if asked.to == "lora" else (untouched, residual)
            notes.append(logits.checked((models[0], asked.adapter), (models[1], unfinished)))
        with atomic(unfinished / "README.md") as file:
            kind = "lora" if config["r"] == pair.trained.config["r"] else f"to {asked.to}"
            file.write(card.text(kind, asked.out.name, (pair.trained, pair.start), config, notes))
