"""Adapters that were trained elsewhere and are scored beside the sweep's cells. Imports no torch, as sweep.py.

A definition under `adopted:` says where an adapter lies; `sweep.adopted` names those that are scored. What is known of
the training is its start and the base that it is scored on: no rate, seed, step or loss is made up.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from pissa_repro import quantizers
from pissa_repro.model.peft_words import PLAIN
from pissa_repro.plan import versions
from pissa_repro.plan.sections import Config, WrittenAdopted
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.specs import AdoptSpec, BaseSpec
from pissa_repro.sources.prompt import DEFAULT

LIKE_A_CELL = re.compile(r".+-r\d+-lr[^/]+-s\d+")  # how the folders of trained cells are called
ELSEWHERE = "trained elsewhere"
FOLDERS = ("adapter", "init", "residual")
READ = (".json", ".safetensors")  # files of a folder that are read


@dataclass(frozen=True)
class Adopted:
    """An adapter that was trained elsewhere. method: its name in the config; data: what it is said to be trained on.

    prompt: the style in which it is asked (sources/prompt.py).
    """

    model: str
    data: str
    method: str
    quant: str
    prompt: str
    display: str
    stage: ClassVar[str] = "adopt"  # what makes its folder, in the place of a training
    batch: ClassVar[str] = "adopted"  # of what its batches are, by their names

    @property
    def name(self) -> str:
        """Its folder below results/cells."""
        return f"{self.model}/{self.data}/{self.method}"

    def spec(self, version: int) -> AdoptSpec | BaseSpec:
        """What decides a score, but for the bits of the adapter and of the base."""
        more = versions.of_quants([self.quant]) | ({} if self.prompt == DEFAULT else {"prompt": self.prompt})
        return cast("AdoptSpec", {"stage": self.stage, "version": version, "quant": self.quant, **more})


def swept(config: Config) -> dict[str, Adopted]:
    """The adapters of `sweep.adopted` by their folders' names, in its order."""
    found = {}
    for name in config["sweep"].get("adopted", ()):
        given = config["adopted"][name]
        display = f"{given.get('display', name)} ({ELSEWHERE})"
        prompt = given.get("prompt", config["train"]["prompt"])  # the sweep's, so that it stands beside its cells
        one = Adopted(given["model"], given["dataset"], name, given.get("quant", "none"), prompt, display)
        found[one.name] = one
    return found


def check(config: Config) -> None:
    """Raise UserError for a definition that names what there is not, or a part that does not go with the others."""
    defined = config.get("adopted", {})
    for name, given in defined.items():
        place = f"config.adopted.{name}"
        for key, known in (("model", config["models"]), ("dataset", config["datasets"])):
            if given[key] not in known:  # type: ignore[literal-required]
                raise unknown(key, given[key], known, f"{place}.{key}")  # type: ignore[literal-required]
        quantizers.find(given.get("quant", "none"), f"{place}.quant")
        if "init" in given and "residual" in given:
            raise UserError(f"{place}: give 'init' or 'residual', whose start lies in it; not both.")
        if LIKE_A_CELL.fullmatch(name):
            raise UserError(
                f"{place}: a name that ends like a trained cell's, in -r<rank>-lr<rate>-s<seed>. Choose another."
            )
    for name in config["sweep"].get("adopted", ()):
        if name not in defined:
            raise unknown("adopted adapter", name, defined, "config.sweep.adopted")


def check_labels(labels: Iterable[str], adopted: Iterable[Adopted]) -> None:
    """Raise UserError where two rows of a table would be called alike."""
    labels, taken = set(labels), set()
    for one in adopted:
        place_of = one.model, one.data, one.display
        if one.display in labels or place_of in taken:
            base = one.stage != "adopt"
            place, other = ("sweep.bases", "the other one") if base else (f"adopted.{one.method}", "it")
            raise UserError(
                f"config.{place}: two rows would be called {one.display!r} in tables. Give {other} another 'display'."
            )
        taken.add(place_of)


def check_swept(config: Config) -> None:
    """Raise UserError for a swept adapter that would stand beside no cell, and where its folders hold no LoRA.

    Reads small files only.
    """
    for name in config["sweep"].get("adopted", ()):
        given, place = config["adopted"][name], f"config.adopted.{name}"
        for key, axis in (("model", config["sweep"]["models"]), ("dataset", config["sweep"]["datasets"])):
            if given[key] not in axis:  # type: ignore[literal-required]
                raise UserError(
                    f"{place}.{key}: '{given[key]}' is not swept. It is scored beside cells of config.sweep.{key}s: "  # type: ignore[literal-required]
                    f"{', '.join(axis)}."
                )
        files(given, place)


def files(given: WrittenAdopted, place: str) -> list[str]:
    """The files that adopting reads, so that an edit is noticed: of the adapter, its start and its residual."""
    found: list[Path] = []
    for key in FOLDERS:
        if folder := given.get(key):
            found += _files(Path(str(folder)), f"{place}.{key}")
    return [str(path) for path in found]


def _files(folder: Path, place: str) -> list[Path]:
    """The files of a folder, and of the one below it that has the adapter (PEFT's for a named one; pissa_init)."""
    if not folder.is_dir():
        raise UserError(
            f"{place}: no such folder '{folder}'. One on a hub: `hf download OWNER/NAME --local-dir DIR`. One that was "
            "moved: say where to, or take its name out of config.sweep.adopted; its scores stay."
        )
    configs = [path for path in (folder / PLAIN.config, *sorted(folder.glob(f"*/{PLAIN.config}"))) if path.is_file()]
    if not configs:
        raise UserError(f"{place}: '{folder}' is no adapter's folder (no {PLAIN.config}).")
    _check_lora(configs[0], place)
    used = [folder] if configs[0].parent == folder else [folder, configs[0].parent]
    return sorted(path for one in used for path in one.iterdir() if path.suffix in READ and path.is_file())


def _check_lora(path: Path, place: str) -> None:
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{place}: {path}: damaged ({error}).") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise UserError(f"{place}: {path} is of peft_type {kind}; LORA can be adopted.")


def source(given: WrittenAdopted) -> dict[str, Any]:
    """What the stage is told beside the spec: the places, which decide nothing, and whether they are trusted."""
    return {key: given[key] for key in (*FOLDERS, "trust") if key in given}  # type: ignore[literal-required]
