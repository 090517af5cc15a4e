"""What a folder is, which base model it needs, and how it is loaded: from JSON files and headers, no tensor is read."""

from pathlib import Path
from typing import Any

from pissa_repro.adapters import card, described, folder
from pissa_repro.adapters.described import Found
from pissa_repro.adapters.fit import Needed, check
from pissa_repro.adapters.folder import TAKING
from pissa_repro.model import classes, factors
from pissa_repro.model import folder as model_folder
from pissa_repro.model.architecture import CLASSIFICATION, of_json
from pissa_repro.model.header import header
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json
from pissa_repro.sources.fetched import stored_model

KINDS = ("cell", "trained", "start", "factors", "adapter", "residual", "model")
INSIDE = "They belong on the base that pissa-repro makes; other tools refuse the folder."


def examine(path: Path, base: Path | None = None) -> Found:
    """What the folder is, with, where a base is given, whether it is the right one (a model folder or its record).

    Raises UserError for a folder that is none of KINDS, for damaged or cut files, and for a newer format.
    """
    if not path.is_dir():
        raise UserError(f"DIR {path}: no such folder. One on a hub: `hf download OWNER/NAME --local-dir DIR` first.")
    found = _look(path)
    if base is not None:
        if found.adapter is None or found.base is None:
            raise UserError(f"--base {base}: {path} is a {found.kind} and needs none.")
        place = Path(stored_model(base)["path"]) if base.suffix == ".json" else base
        found.given = check(found.adapter, found.base, place)
    return found


def _look(path: Path) -> Found:
    if paths.Cell(path).train.is_file() and paths.Cell(path).trained.is_dir():
        return _cell(path)
    if (path / factors.TRAINED).is_dir():
        return _trained(path)
    if (path / folder.CONFIG).is_file():  # base.json may lie beside it
        return described.adapter(path)
    if (path / factors.BASE).is_file() or (path / factors.CONFIG).is_file():
        return _factors(path)
    if (path / model_folder.CONFIG).is_file():
        adapters = sorted(config.parent for config in path.glob(f"*/{folder.CONFIG}"))
        return _residual(path, adapters) if adapters else _model(path)
    if any(path.glob(f"*/{folder.CONFIG}")):
        return described.adapter(folder.find(path, "DIR"))
    raise UserError(
        f"DIR {path}: neither an adapter ({folder.CONFIG}), nor a model ({model_folder.CONFIG}), factors "
        f"({factors.BASE}) or a cell (train.json and trained/). It holds: {', '.join(_some(path)) or 'nothing'}."
    )


def _some(path: Path) -> list[str]:
    return sorted(one.name for one in path.iterdir())[:6]


def _cell(path: Path) -> Found:
    spec, trained = _spec(paths.Cell(path).train), paths.Cell(path).trained
    if spec["init"] is not None and not (trained / factors.TRAINED).is_dir():
        raise UserError(
            f"DIR {path}: a cell of an older version, whose adapter belongs on a residual that its config does not "
            "name. Train it again (snakemake)."
        )
    found = _look(trained)
    rank = f"rank {spec['init']['rank']}, " if spec["init"] else ""
    found.path, found.kind = path, "cell"
    found.what = (
        f"A trained cell: method {spec['method']}, quantization {spec['quant']}, {rank}learning rate "
        f"{spec['learning_rate']:g}, seed {spec['seed']}. In trained/: {found.what}"
    )
    return found


def _spec(record: Path) -> dict[str, Any]:
    """What the record of a training says it was asked."""
    spec = read_json(record).get("spec") or {}
    if missing := {"method", "quant", "init", "learning_rate", "seed"} - spec.keys():
        raise UserError(f"{record}: not the record of a training (its spec has no {min(missing)}).")
    return dict(spec)


def _trained(path: Path) -> Found:
    """What a training has left: factors, and beside them what others can load."""
    inside = _factors(path / factors.TRAINED)
    if not (path / folder.CONFIG).is_file():
        inside.path, inside.kind = path, "trained"
        inside.what = (
            f"factors/ only; for other tools there is nothing to load here, its README.md says why. {inside.what}"
        )
        inside.notes.append("`pissa export CELL --as merged` (or residual) makes what other tools load.")
        return inside
    found = described.adapter(path)
    found.kind, found.base = "trained", inside.base
    found.what = f"a plain LoRA on the untouched base, for other tools. In factors/: {inside.what}"
    return found


def _factors(path: Path) -> Found:
    """A folder of factors; it is checked to be as it was written."""
    belongs = factors.belongs_of(path)
    factors.sha256(path)
    kind = "start" if belongs.get("start") is None else "factors"
    parts = factors.trained_parts(belongs)
    whole = kind == "start" or {"A", "B"} <= set(parts)  # else the start has the rest
    stored, fields = path / factors.FACTORS, read_json(path / factors.CONFIG)
    adapter = folder.of(path, stored, fields) if whole else None
    taken = {None: "W", "start": "W - s B0 A0"}.get(belongs["offset"], "W less an offset of its own")
    on = taken if belongs["quant"] == "none" else f"{belongs['quant']}({taken})"
    which = "Initial factors" if kind == "start" else "Trained factors"
    train = "" if parts == factors.USUAL else f" What trains: {', '.join(parts)}."
    what = f"{which} of {belongs.get('method', 'a method')}, on {on}.{train} {INSIDE}"
    needed = Needed(belongs["name"], belongs["commit"], belongs["fingerprint"])
    return Found(
        path, kind, what, "", needed, adapter, described.facts(adapter) if adapter else described.sizes(header(stored))
    )


def _residual(path: Path, adapters: list[Path]) -> Found:
    """A model with adapters inside: its start (PiSSA's pissa_init/), a trained one, or both."""
    found, trained = _model(path), [one for one in adapters if not one.name.endswith("_init")]
    chosen = (trained or adapters)[0]
    names = " or ".join(f"{one.name}/" for one in adapters)
    found.kind = "residual"
    found.what = (
        f"A residual model: what an initialisation left of a base. The model is these weights and the adapter in "
        f"{names} together; without one they are no model to use."
    )
    found.facts["adapters"] = {one.name: described.adapter(one).facts for one in adapters}
    for one in adapters:
        init = folder.config_of(one / folder.CONFIG).get("init_lora_weights")
        if isinstance(init, str) and init.startswith(TAKING):
            found.notes.append(
                f"{one.name}/{folder.CONFIG} says '{init}': PEFT would decompose the residual. Set it to true."
            )
    more = "" if trained else ", is_trainable=True"
    auto = of_json(model_folder.read_json(path / model_folder.CONFIG)).auto_class
    head = classes.loading(chosen)
    auto = CLASSIFICATION.auto_class if head else auto
    told = card.keywords(head)
    found.loading = card.RESIDUAL.format(auto=auto, folder=path, adapter=chosen.name, more=more, head=told)
    return found


def _model(path: Path) -> Found:
    config = model_folder.read_json(path / model_folder.CONFIG)
    tensors = {name: one for file in model_folder.weight_files(path) for name, one in header(file).items()}
    named, quantized = config.get("architectures") or ["a model"], config.get("quantization_config")
    loading, what = card.loading_whole(str(path), of_json(config)), f"A whole model ({named[0]})."
    found = Found(path, "model", what, loading, facts=described.sizes(tensors))
    if isinstance(quantized, dict) and quantized:
        found.what += f" It is quantized ({quantized.get('quant_method', 'see config.json')})."
    if not model_folder.tokenizer_files(path):
        found.notes.append("It has no tokenizer: take that of its base.")
    return found
