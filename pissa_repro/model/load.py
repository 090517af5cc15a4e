"""Load a base model: what every cell starts from."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pissa_repro.model import classes
from pissa_repro.model.architecture import SEQ2SEQ, architecture, start_token
from pissa_repro.model.checkpoint import stored
from pissa_repro.model.classes import Head
from pissa_repro.model.folder import CONFIG, is_file
from pissa_repro.model.lent import Lent
from pissa_repro.model.skeleton import as_user_error, skeleton
from pissa_repro.model.tokens import align, load_tokenizer
from pissa_repro.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
GENERATION = "generation_config.json"

# Models that count positions from behind the one of padding: their table holds more positions than a text may have.
BEHIND_PADDING = frozenset(
    {
        "camembert",
        "data2vec-text",
        "ibert",
        "longformer",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
    }
    | {"xlm-roberta", "xlm-roberta-xl", "xmod"}
)


def default_device() -> torch.device:
    """The GPU of this process where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))  # torchrun numbers its processes


def load_base(
    folder: str | Path, device: torch.device | str | None = None, head: Head | None = None
) -> "PreTrainedModel":
    """The untouched model, float32 whatever the files hold (pitfall 15, docs/pitfalls.md), placed weight by weight.

    On the given device or this process's. Raises UserError as `lent_base`, and for weights that are not finite.
    """
    return lent_base(folder, device, head).place()


def lent_base(folder: str | Path, device: torch.device | str | None = None, head: Head | None = None) -> Lent:
    """The untouched model with its weights still in the files.

    head: of a model that gives classes; drawn where the files have none, and its last token told by the tokenizer's
    pad. Raises UserError as `skeleton`, and for weights that are not tied as the config says.
    """
    with as_user_error(folder):
        model = skeleton(folder, head)  # all that headers show: whatever does not fit ends here
        lent = Lent(folder, model, torch.device(device or default_device()))
        if head is None:
            model.generation_config = _only_tokens(_generation(folder), start_token(model.config))
        else:
            classes.draw(model, classes.fresh(folder, model, stored(folder)), head.seed)
            align(model, load_tokenizer(folder, needs_end=False))
        _check_head(folder, model)
    return lent


def _check_head(folder: str | Path, model: "PreTrainedModel") -> None:
    """Raise UserError for a head that config.json says to be the embedding, and that is another in the files.

    T5's classes say so of every model, and load T5 1.1 and Flan-T5, whose head is another, all the same. Their config
    is set right here: lm-eval ties what it says is tied.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    config: Any = model.config.get_text_config()
    if head is None or head.weight is embedding.weight or not getattr(config, "tie_word_embeddings", False):
        return
    if architecture(config) is SEQ2SEQ and type(config)(tie_word_embeddings=False).tie_word_embeddings:
        config.tie_word_embeddings = False
    else:
        raise UserError(
            f"{folder}: config.json ties the head to the embedding (tie_word_embeddings), the files hold two different "
            "ones. Use the config.json that belongs to these weights."
        )


def _generation(folder: str | Path) -> "GenerationConfig":
    """The model's generation_config.json; of older folders, what config.json says of it."""
    from transformers import GenerationConfig

    own = is_file(Path(folder) / GENERATION)
    name = GENERATION if own else CONFIG
    return GenerationConfig.from_pretrained(folder, name, _from_model_config=not own, local_files_only=True)


def _only_tokens(given: "GenerationConfig", start: int | None) -> "GenerationConfig":
    """A model's generation_config.json without its sampling, penalties and lengths: they would change greedy decoding.

    transformers takes them, vLLM does not; some that ship with models cannot even be saved again.
    start: the token that the decoder of an encoder-decoder begins with, as in training.
    """
    from transformers import GenerationConfig

    kept = {key: getattr(given, key, None) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return GenerationConfig(**kept, decoder_start_token_id=start)


def window(config: Any, fallback: int) -> int:
    """How many tokens a model of this transformers config can see; `fallback` where it sets no limit.

    With longrope, what it was first trained on: beyond, all texts of a batch are turned by other angles
    as soon as one of them is longer, so that an answer would depend on its neighbours.
    Raises UserError for a limit that is no natural number.
    """
    limit = getattr(config, "max_position_embeddings", None) or fallback
    if type(limit) is int and getattr(config, "model_type", None) in BEHIND_PADDING:
        limit -= config.pad_token_id + 1
    if type(limit) is not int or limit < 1:
        raise UserError(f"config.json: max_position_embeddings is {limit!r}, not a number of tokens.")
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        return min(limit, rope["original_max_position_embeddings"])
    return limit


def check_length(max_length: int, config: Any) -> None:
    """Raise UserError for training examples that are longer than a model of this config can see."""
    limit = window(config, max_length)
    if max_length > limit:
        raise UserError(f"config.train.max_length: {max_length} tokens, the model sees {limit}.")
