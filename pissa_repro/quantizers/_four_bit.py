"""What nf4 and fp4 share: the functions of a quantizer whose blocks are rounded to 16 levels or fewer."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from pissa_repro.linalg.quantize import FourBit


def functions(
    name: str, levels: tuple[float, ...]
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """roundtrip, packable, packed and bitsandbytes of the kind that bitsandbytes calls `name`."""

    def kind(options: dict[str, Any]) -> "FourBit":
        from pissa_repro.linalg.quantize import FourBit

        return FourBit(name, levels, **options)

    def roundtrip(weight: "torch.Tensor", options: dict[str, Any], spare: bool) -> "torch.Tensor":
        return kind(options).roundtrip(weight, spare)

    def packable(linear: "torch.nn.Module", options: dict[str, Any]) -> bool:
        return kind(options).packable(linear)

    def packed(
        linear: "torch.nn.Linear", weight: "torch.Tensor", options: dict[str, Any], dtype: "torch.dtype"
    ) -> "torch.nn.Module":
        return kind(options).packed(linear, weight, dtype)

    def bitsandbytes(options: dict[str, Any]) -> dict[str, Any]:
        if options["blocksize"] != 64:  # transformers asks for no other
            return {}
        return {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": name,
            "bnb_4bit_use_double_quant": options["double"],
        }

    return roundtrip, packable, packed, bitsandbytes
