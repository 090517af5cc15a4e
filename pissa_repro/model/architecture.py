"""The architectures that are trained and scored here, by what transformers, PEFT and lm-eval call them."""

from typing import Any, NamedTuple


class Architecture(NamedTuple):
    """name: in records, and lm-eval's backend. task_type: PEFT's. auto_class: transformers' class that loads it."""

    name: str
    task_type: str
    auto_class: str

    def auto(self) -> Any:
        """transformers' class that makes and loads such models."""
        import transformers

        return getattr(transformers, self.auto_class)


CAUSAL = Architecture("causal", "CAUSAL_LM", "AutoModelForCausalLM")
SEQ2SEQ = Architecture("seq2seq", "SEQ_2_SEQ_LM", "AutoModelForSeq2SeqLM")  # encoder-decoder: T5, BART


def of_record(name: str | None) -> Architecture:
    """The architecture that a record names; causal where it is older than the others, and names none."""
    return SEQ2SEQ if name == SEQ2SEQ.name else CAUSAL


def of_task(task_type: str | None) -> Architecture:
    """The architecture that an adapter's config names; causal where it names none of those here."""
    return SEQ2SEQ if task_type == SEQ2SEQ.task_type else CAUSAL


def architecture(config: Any) -> Architecture:
    """The architecture of a model with this transformers config; skeleton.own_config refuses what is neither."""
    return SEQ2SEQ if getattr(config, "is_encoder_decoder", False) else CAUSAL


def of_json(content: dict[str, Any]) -> Architecture:
    """The same from a config.json, where transformers always writes what decides it."""
    return SEQ2SEQ if content.get("is_encoder_decoder") is True else CAUSAL


def start_token(config: Any) -> int | None:
    """The token that a decoder with an encoder before it begins with; None for a causal model, which has none."""
    return config.decoder_start_token_id if architecture(config) is SEQ2SEQ else None
