"""TRL's SFTTrainer with the loss alone of what it computes, and on CPUs with a head that is made for them.

TRL's own fused head is made for cards, where its kernels leave out what has no label. Elsewhere it computes all
positions, prompts and padding among them, computes their logits once more on the way back, and passes over them for an
entropy and an accuracy that no record has.
"""

import functools
import types
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import TrainingArguments
from transformers.modeling_outputs import CausalLMOutput
from trl import SFTTrainer

from pissa_repro.model.walk import NO_LOSS

LOGITS = 2**24  # held at once on a CPU: 64 MiB in float32
# What a config may say of logits that are not the head's alone. TRL's head knows them.
CHANGED = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


class CausalTrainer(SFTTrainer):
    """A trainer whose loss is a micro-batch's share in the mean over all labels of a step, in nats."""

    def __init__(self, *args: Any, **given: Any):
        super().__init__(*args, **given)
        model = cast("Any", self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model)
        if fits(model, self.args):
            add_head(model)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss. TRL's own gathers metrics from all processes, and waits for the card to say them."""
        outputs = model(**inputs, use_cache=False, fused_lm_head=True, num_items_in_batch=num_items_in_batch)
        loss = outputs.loss * self.accelerator.num_processes  # DDP averages the gradients over processes
        return (loss, outputs) if return_outputs else loss


def fits(model: Any, args: TrainingArguments) -> bool:
    """Whether the head of CPUs is this model's: a plain product in float32. TRL's computes any other."""
    text = model.config.get_text_config()
    plain = all(getattr(text, name, None) in (None, 1) for name in CHANGED)
    exact = model.get_output_embeddings().weight.dtype == torch.float32 and not args.bf16
    return args.device.type == "cpu" and plain and exact


def add_head(model: Any) -> None:
    """Give a model, whose forward has TRL's fused head, that of PyTorch: at positions with a label alone.

    Its chunks take the gradient while they have the logits, so that these are computed once.
    """
    other = model.forward

    @functools.wraps(type(model).forward)  # the Trainer and `generate` ask for its signature
    def forward(
        self: Any,
        *args: Any,
        fused_lm_head: bool = False,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Any = None,
        **given: Any,
    ) -> Any:
        if not fused_lm_head or labels is None:
            return other(*args, labels=labels, num_items_in_batch=num_items_in_batch, **given)
        hidden, labels = self.base_model(*args, **given).last_hidden_state[:, :-1], labels[:, 1:]
        kept, head = labels != NO_LOSS, self.get_output_embeddings()
        rows = max(1, LOGITS // len(head.weight))
        loss = torch.nn.functional.linear_cross_entropy(
            hidden[kept],
            head.weight,
            labels[kept],
            linear_bias=head.bias,
            reduction="sum",
            options=torch.nn.LinearCrossEntropyOptions(chunking_method=None, batch_chunk_size=rows),
        )
        return CausalLMOutput(loss=loss / num_items_in_batch)

    model.forward = types.MethodType(forward, model)
