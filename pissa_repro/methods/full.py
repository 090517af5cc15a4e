"""Full fine-tuning: every weight trains, there are no factors."""

DISPLAY = QUANTIZED_DISPLAY = "full FT"
RANDOM = False
LOOK = 0
FACTORS = False


def refuse(quant: str) -> str | None:
    """Quantized weights have no gradient that a step could follow."""
    return None if quant == "none" else "full fine-tuning trains every weight, and quantized weights cannot be trained"
