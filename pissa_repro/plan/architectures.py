"""What the architecture of a model cannot do, in the dry run, where its folder is at hand. Imports no torch.

Of a model from a hub, and of damaged files, the stages after the dry run say it.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pissa_repro.model.architecture import CAUSAL, Architecture, of_json
from pissa_repro.model.folder import CONFIG, read_json
from pissa_repro.plan.parts import parts
from pissa_repro.plan.sections import Config
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.specs import ModelSource


def check(config: Config) -> None:
    """Raise UserError for a swept task that vLLM would answer with a model that it does not run, and for GPTQ of it."""
    swept, studies, models = config["sweep"], config["studies"], config["models"]
    by_vllm = [name for name in swept["tasks"] if config["tasks"][name].get("backend", "hf") == "vllm"]
    trained = dict.fromkeys(name for part in parts(config).values() for name in part["models"])
    for name in trained if by_vllm else ():
        if (kind := _at_hand(models[name])) and kind.no_vllm:
            raise UserError(
                f"config.tasks.{by_vllm[0]}.backend: vllm, with the model '{name}'. {kind.no_vllm} Choose the backend "
                "hf."
            )
    for name in studies["models"] if studies["gptq"] else ():
        if (kind := _at_hand(models[name])) and kind is not CAUSAL:
            raise UserError(
                f"config.studies.gptq: GPTQ is measured on causal language models only, and '{name}' is of the kind "
                f"{kind.name}. Leave it out of config.studies.models."
            )


def _at_hand(source: ModelSource | Mapping[str, str]) -> Architecture | None:
    """The architecture of a model's folder; None where it cannot be read now."""
    place = Path(source.get("path", "")) / CONFIG
    with suppress(UserError, OSError, ValueError):
        if "path" in source and place.is_file():
            return of_json(read_json(place))
    return None
