"""The parts of a model in training, as the hooks of a method see them."""

from typing import TYPE_CHECKING

from pissa_repro.methods import Parts

if TYPE_CHECKING:
    from peft import PeftModel


def parts(wrapped: "PeftModel") -> dict[str, Parts]:
    """A and B of every adapted module of a model's only adapter, by the module's name in the model without PEFT's."""
    (adapter,) = wrapped.peft_config
    layers = {
        name: layer
        for name, layer in wrapped.get_base_model().named_modules()
        if adapter in getattr(layer, "lora_A", ())
    }
    return {
        name: Parts(layer.lora_A[adapter].weight, layer.lora_B[adapter].weight, None, layer.scaling[adapter])
        for name, layer in layers.items()
    }
