"""Take in an adapter that was trained elsewhere: check that it belongs to the base, and write what is scored.

On a plain base it becomes a plain adapter on the untouched model, converted where its start took something out. Where
the base is to be quantized and a start was taken out of it, adapter and start are kept as they are (model/adopted.py).
"""

import math
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pissa_repro import quantizers
from pissa_repro.adapters import bases, belongs, card, convert, folder
from pissa_repro.adapters.folder import CONFIG, Adapter
from pissa_repro.adapters.pair import Pair, Survey
from pissa_repro.model.adopted import RAW, START
from pissa_repro.model.peft_words import FROZEN, PLAIN, Files, done
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import atomic, atomic_folder, refuse_existing, refuse_no_space, sha256, write_json
from pissa_repro.runtime.record_types import AdoptFacts, ModelRecord
from pissa_repro.runtime.specs import AdoptSpec
from pissa_repro.sources.fetched import public_name
from pissa_repro.sources.prompt import DEFAULT, make_style, named

TOKENIZER = "tokenizer_config.json"


@dataclass(frozen=True)
class Asked:
    """An adapter, and what is said of it. init: the folder of its start; residual: one with a start inside; or neither.

    quant: of the base that it is scored on. trust: it is what it is said to be, whatever its numbers look like.
    """

    adapter: Path
    init: Path | None = None
    residual: Path | None = None
    quant: str = "none"
    trust: bool = False
    prompt: str = DEFAULT


def asked_of(source: Mapping[str, Any], spec: AdoptSpec) -> Asked:
    """What a definition of the config asks for (plan/adopted.py, source), and its spec."""
    folders = {key: Path(source[key]) for key in ("init", "residual") if key in source}
    trust, prompt = source.get("trust", False), named(spec)
    return Asked(Path(source["adapter"]), quant=spec["quant"], trust=trust, prompt=prompt, **folders)


@dataclass(frozen=True)
class Examined:
    """What was found. start: the adapter before the training, where that took something out of the base."""

    trained: Adapter
    start: Adapter | None
    facts: AdoptFacts


def examine(asked: Asked, stored: ModelRecord) -> Examined:
    """Read an adapter's folders and check them against the base; nothing is written, and no whole model is loaded.

    Raises UserError for what is no whole LoRA, does not belong to the base, or lies on another base than is said.
    """
    given = asked.init or (belongs.start_beside(asked.residual) if asked.residual else None)
    trained = folder.read(asked.adapter, "adapter", merging=given is None)
    belongs.check_fit(trained, stored)
    notes = [belongs.other_name(trained, stored), *_tokenizer(trained, stored, asked.prompt)]
    start, said = None, _quantized(trained)
    if given:
        start = folder.read(given, "residual" if asked.residual else "init")
        with ExitStack() as opened:
            found = convert.examined(Pair(trained, start, opened), _conversion(asked, trained, start, Path()))
        said = bases.quantization(trained, start)
        _check_quant(said, start, asked)
        notes.append(_taken(found, asked, start, stored))
        start = start if found.taken else None
    else:
        _check_quant(said, trained, asked)
        _check_plain(trained, asked, stored)
    facts = AdoptFacts(
        rank=trained.rank,
        trainable_parameters=_trained_parameters(trained),
        trained_as=said,
        adopted_sha256={part: _hashes(one) for part, one in (("adapter", trained), ("start", start)) if one},
        notes=[note for note in notes if note],
    )
    return Examined(trained, start, facts)


def write(asked: Asked, found: Examined, stored: ModelRecord, out: Path) -> None:
    """Write the folder that is scored.

    Raises UserError where it exists, and for no space, before anything is written.
    """
    trained, start = found.trained, found.start
    refuse_existing(out)
    if start and asked.quant == "none":
        convert.convert(_conversion(asked, trained, start, out))
        return
    parts = [(trained, RAW if start else PLAIN), *([(start, START)] if start else [])]
    needed = sum(one.weights.stat().st_size for one, _ in parts)
    out.parent.mkdir(parents=True, exist_ok=True)
    refuse_no_space(out, needed)
    with atomic_folder(out) as unfinished:
        for one, files in parts:
            _copy(one, files, _place(stored), unfinished)
        with atomic(unfinished / "README.md") as file:
            file.write(_card(asked, found, stored, out.name))


def _place(stored: ModelRecord) -> dict[str, str | None]:
    """The base as an adapter's config names it: a hub id and its commit; nothing for a folder of this machine."""
    return {"base_model_name_or_path": public_name(stored), "revision": stored["commit"]}


def _copy(adapter: Adapter, files: Files, place: dict[str, str | None], out: Path) -> None:
    """An adapter as it is, to be loaded only: nothing decomposes the base once more, and no path of a machine stays."""
    shutil.copyfile(adapter.weights, out / files.weights)
    write_json(out / files.config, done(adapter.config) | {"inference_mode": True} | place)


def _card(asked: Asked, found: Examined, stored: ModelRecord, name: str) -> str:
    """README.md: what the folder holds, and how others load it."""
    base = public_name(stored)
    rank, config, facts = found.trained.rank, found.trained.config, found.facts
    about = "It was trained elsewhere and taken in to be scored."
    how = card.loading(base or "BASE", name, rank, config)
    if found.start:
        about += (
            f" It belongs on quantize(W - s B0 A0), {asked.quant}, with B0 A0 in {START.weights}: on no model that "
            "others have. So there is no file that PEFT or vLLM loads."
        )
        how = "The folders that it was taken from hold the adapter as PEFT wrote it."
    notes = "\n".join(f"- {note}" for note in facts["notes"])
    head = card.head(base, ["lora"], card.licence(stored["path"]))
    sections = (head, f"# Adapter of rank {rank}", about, notes, how)
    return "\n\n".join(section for section in sections if section) + "\n"


def _conversion(asked: Asked, trained: Adapter, start: Adapter, out: Path) -> convert.Asked:
    """The conversion to a plain LoRA on the untouched base; exact, since that base is not quantized."""
    return convert.Asked(trained.path, start.path, out, lossy=True, trust_init=asked.trust)


def _taken(found: Survey, asked: Asked, start: Adapter, stored: ModelRecord) -> str:
    """A sentence on the start. Raises UserError where it was not taken out of this base."""
    if not found.taken:
        return "Its start takes nothing out of the base: a plain LoRA."
    if asked.residual and not _is_quantized(asked.residual):
        return belongs.check_residual(start, asked.residual, asked.quant, stored)
    alike = belongs.likeness(start, stored["path"])
    if alike.cosine < belongs.TAKEN and not asked.trust:
        raise UserError(
            f"{start.path}: its s B0 A0 is no part of the weights of {stored['name']} (cosine {alike.cosine:.2f}, "
            f"below {belongs.TAKEN}): it was taken out of another model or revision. {belongs.TRUST}"
        )
    return f"Its start was taken out of the base (cosine {alike.cosine:.2f} with W in its own space)."


def _check_plain(trained: Adapter, asked: Asked, stored: ModelRecord) -> None:
    """Raise UserError for an adapter that lies on a residual, which is neither said nor given."""
    where = "Give its start (`init`, --init) or its residual (`residual`, --residual), or convert it first"
    named = trained.config.get("init_lora_weights")
    if isinstance(named, str) and named.startswith(folder.TAKING):
        raise UserError(f"{trained.path}: was started as {named}, so it lies on a residual, not on the base. {where}.")
    if asked.trust or trained.config.get("use_dora"):
        return
    alike = belongs.likeness(trained, stored["path"])
    if alike.taken:
        raise UserError(
            f"{trained.path}: its s B A is a part of the weights of {stored['name']} (cosine {alike.cosine:.2f}, above "
            f"{alike.limit:.2f}): a PiSSA, MiLoRA or OLoRA adapter that lies on a residual. {where}. {belongs.TRUST}"
        )


def _is_quantized(residual: Path) -> bool:
    """Whether a residual model's config says that its weights are in few bits."""
    path = residual / "config.json"
    return path.is_file() and bool(bases.quantization_config(path))


def _hashes(adapter: Adapter) -> dict[str, str]:
    """The SHA-256 of an adapter's two files; of what else lies beside them, nothing is read."""
    return {path.name: sha256(path) for path in (adapter.weights, adapter.path / CONFIG)}


def _quantized(trained: Adapter) -> str | None:
    """LoftQ, where an adapter's own config says that it began so; None where nothing tells."""
    began = trained.config.get("loftq_config") or trained.config.get("init_lora_weights") == "loftq"
    return "LoftQ" if began else None


def _check_quant(said: str | None, adapter: Adapter, asked: Asked) -> None:
    """Raise UserError where the base of the training was quantized, as the folders say, and this one is another.

    said: how; None where they do not tell.
    """
    if said and said != asked.quant and (asked.quant == "none" or said in quantizers.names()) and not asked.trust:
        named = said if said in quantizers.names() else "nf4, or another"
        raise UserError(
            f"{adapter.path}: its base was quantized for the training ({said}), and it would be scored on "
            f"{asked.quant}. Say `quant: {named}` (--quant), or `trust: true` for a score on another base."
        )


def _trained_parameters(adapter: Adapter) -> int:
    """How many numbers were trained: all that the file holds but frozen weights of the base."""
    kept = (tensor for key, tensor in adapter.tensors.items() if not key.endswith(FROZEN))
    return sum(math.prod(tensor.shape) for tensor in kept)


def _tokenizer(trained: Adapter, stored: ModelRecord, prompt: str) -> list[str]:
    """A sentence on a tokenizer beside the adapter (TRL writes one); none where there is no such.

    It is scored with the base's, as every cell is; added tokens that no prompt has do no harm. Raises UserError for
    one that reads texts otherwise.
    """
    if not (trained.path / TOKENIZER).is_file():
        return []
    base, beside = (load_tokenizer(place) for place in (stored["path"], trained.path))
    beside.chat_template = beside.chat_template or base.chat_template  # one without a template says nothing of chats
    ours, theirs = (make_style(prompt, tokenizer) for tokenizer in (base, beside))
    text, other = (style.prompt(["What is 12 + 3.5? Say why, in brief."]) for style in (ours, theirs))
    if text != other:
        raise UserError(
            f"{trained.path}: the chat template beside the adapter makes another prompt than that of {stored['name']}, "
            "with which it would be asked. Choices: its chat_template.jinja in the model's folder; another `prompt`."
        )
    if ours.ids([text]) != theirs.ids([text]):
        raise UserError(
            f"{trained.path}: the tokenizer beside the adapter makes other tokens of a prompt than that of "
            f"{stored['name']}, with which it would be scored. Is the base the right one?"
        )
    return ["The tokenizer beside it reads prompts as the base's does, which is used."]
