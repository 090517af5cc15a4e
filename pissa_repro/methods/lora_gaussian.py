"""LoRA with a Gaussian A, the first of the two LoRA rows of PiSSA v4's Table 2; the second, Kaiming-uniform, is `lora`.

The deviation is 1 / r, as PEFT's `init_lora_weights="gaussian"`; LoRA's paper says "random Gaussian" and no more.
"""

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY, QUANTIZED_DISPLAY = "LoRA (Gaussian A)", "QLoRA (Gaussian A)"
RANDOM = True
LOOK = 16


def start(weight: Matrix, setting: Setting) -> Start:
    """A ~ N(0, 1 / r^2), B = 0."""
    import torch

    out_features, in_features = weight.shape
    a = torch.empty(setting.rank, in_features).normal_(0, 1 / setting.rank, generator=setting.generator)  # on the CPU
    return Start(A=a.to(weight), B=weight.new_zeros(out_features, setting.rank))
