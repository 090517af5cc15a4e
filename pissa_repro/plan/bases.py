"""The base model as it is, scored beside the sweep's cells: row 0 of their tables. Imports no torch, as sweep.py.

`sweep.bases` names the quantizations. Nothing is trained: the spec says how the base is made and asked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from pissa_repro import quantizers
from pissa_repro.plan import lora
from pissa_repro.plan.adopted import Adopted
from pissa_repro.plan.cells import Point
from pissa_repro.plan.sections import Config
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.specs import BaseSpec

UNTRAINED = "not trained"
PREFIX = "base-"  # how its folder begins


@dataclass(frozen=True)
class BaseModel(Adopted):
    """A base before any training. train: the settings of the cells that train on it, after overrides."""

    train: tuple[tuple[str, Any], ...]
    stage: ClassVar[str] = "base"
    batch: ClassVar[str] = "base"

    def spec(self, version: int) -> BaseSpec:
        """What decides a score, but for the bits of the base: its quantized modules, its dtype, its prompt."""
        train = dict(self.train)
        spec: dict[str, Any] = {**super().spec(version), "dtype": train["dtype"]}
        return cast("BaseSpec", spec if self.quant == "none" else {**spec, **lora.targets({}, train)})


def swept(config: Config) -> dict[str, BaseModel]:
    """The bases of `sweep.bases` by their folders' names: one for each model, training data and quantization.

    For each training data, since overrides may ask by another prompt there, and rows may be in it.
    """
    return {one.name: one for one in _swept(config)}


def _swept(config: Config) -> Iterator[BaseModel]:
    swept = config["sweep"]
    for model in swept["models"]:
        for data in swept["datasets"]:
            for quant in swept.get("bases", ()):
                point = Point(model, data, "", quant, 0, 0.0, 0)  # of no method: overrides for one do not apply
                own = [one["set"] for one in config["overrides"] if point.meets(one)]
                train = {**config["train"], **{key: value for some in own for key, value in some.items()}}
                if isinstance(train["target_modules"], list):
                    train["target_modules"] = tuple(train["target_modules"])
                display = "base model" if quant == "none" else f"base model ({quant})"
                settings = tuple(sorted(train.items()))
                yield BaseModel(model, data, f"{PREFIX}{quant}", quant, train["prompt"], display, settings)


def check(config: Config) -> None:
    """Raise UserError for a quantization that there is not, and for an adapter that would have a base's folder."""
    for number, quant in enumerate(config["sweep"].get("bases", ())):
        quantizers.find(quant, f"config.sweep.bases.{number}")
        if f"{PREFIX}{quant}" in config["sweep"].get("adopted", ()):
            raise UserError(
                f"config.adopted.{PREFIX}{quant}: the base model itself is scored under this name "
                "(config.sweep.bases). Choose another."
            )
