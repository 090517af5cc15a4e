"""LoRA+ (arXiv 2402.12354): LoRA whose B learns faster than its A."""

from collections.abc import Mapping
from typing import Any

from pissa_repro.methods import Training, lora

DISPLAY, QUANTIZED_DISPLAY = "LoRA+", "QLoRA+"
RANDOM = lora.RANDOM
LOOK = 14
TRAINING_OPTIONS = {"ratio": 16.0}  # about 2^4: the paper's advice for all tasks

start = lora.start


def refuse_options(options: Mapping[str, Any]) -> str | None:
    """In the paper B learns at least as fast as A (equation 4, lambda >= 1)."""
    return None if options["ratio"] >= 1 else "'ratio', the rate of B over that of A, is 1 or more"


class Faster(Training):
    """The learning rate is A's; B's is `ratio` times as large."""

    def rates(self) -> dict[str, float]:
        """Times how much the learning rate is for B."""
        return {"B": self.options["ratio"]}


TRAINING = Faster
