"""LoRA (arXiv 2106.09685): A is Kaiming-uniform, B is zero, the base is W. On a quantized base: QLoRA."""

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY, QUANTIZED_DISPLAY = "LoRA", "QLoRA"
RANDOM = True
REFERENCE = True
LOOK = 1


def start(weight: Matrix, setting: Setting) -> Start:
    """A ~ U(-1/sqrt(in), 1/sqrt(in)), which is Kaiming-uniform with a = sqrt(5), PEFT's default."""
    import torch

    out_features, in_features = weight.shape
    bound = in_features**-0.5
    a = torch.empty(setting.rank, in_features).uniform_(-bound, bound, generator=setting.generator)  # on the CPU
    return Start(A=a.to(weight), B=weight.new_zeros(out_features, setting.rank))
