"""The architectures that are trained and scored here, by what transformers, PEFT and lm-eval call them."""

from collections.abc import Iterable
from typing import Any, NamedTuple


class Architecture(NamedTuple):
    """name: in records, and lm-eval's backend. task_type: PEFT's. auto_class: transformers' class that loads it.

    no_vllm: why vLLM does not run such a model; None where it does.
    """

    name: str
    task_type: str
    auto_class: str
    no_vllm: str | None = None

    def auto(self) -> Any:
        """transformers' class that makes and loads such models."""
        import transformers

        return getattr(transformers, self.auto_class)


CAUSAL = Architecture("causal", "CAUSAL_LM", "AutoModelForCausalLM")
SEQ2SEQ = Architecture(  # encoder-decoder: T5, BART
    "seq2seq", "SEQ_2_SEQ_LM", "AutoModelForSeq2SeqLM", "vLLM runs no encoder-decoders."
)
CLASSIFICATION = Architecture(
    "classification", "SEQ_CLS", "AutoModelForSequenceClassification", "vLLM is used for models that write words only."
)
ALL = (CAUSAL, SEQ2SEQ, CLASSIFICATION)
CLASSIFIER = "ForSequenceClassification"  # how the names of transformers' classes with a head for classes end


def of_record(name: str | None) -> Architecture:
    """The architecture that a record names; causal where it is older than the others, and names none."""
    return next((one for one in ALL if one.name == name), CAUSAL)


def of_task(task_type: str | None) -> Architecture:
    """The architecture that an adapter's config names; causal where it names none of those here."""
    return next((one for one in ALL if one.task_type == task_type), CAUSAL)


def architecture(config: Any) -> Architecture:
    """The architecture of a model with this transformers config; skeleton.own_config refuses what is none of them."""
    return _of(getattr(config, "architectures", None), getattr(config, "is_encoder_decoder", False))


def of_json(content: dict[str, Any]) -> Architecture:
    """The same from a config.json, where transformers always writes what decides it."""
    return _of(content.get("architectures"), content.get("is_encoder_decoder") is True)


def _of(names: Any, encoder_decoder: bool) -> Architecture:
    if is_classifier(names):
        return CLASSIFICATION
    return SEQ2SEQ if encoder_decoder else CAUSAL


def is_classifier(names: Iterable[Any] | None) -> bool:
    """Whether a config's `architectures` name a class that gives a logit for each of its classes."""
    return any(isinstance(name, str) and name.endswith(CLASSIFIER) for name in names or ())


def start_token(config: Any) -> int | None:
    """The token that a decoder with an encoder before it begins with; None for a model that has no such decoder."""
    return config.decoder_start_token_id if architecture(config) is SEQ2SEQ else None
