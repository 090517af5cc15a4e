"""A language model without its weights: which tensors it needs, compared with those that the files hold."""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pissa_repro.model import classes
from pissa_repro.model.architecture import SEQ2SEQ, Architecture, architecture, is_classifier
from pissa_repro.model.checkpoint import Stored, stored
from pissa_repro.model.classes import Head
from pissa_repro.model.folder import config as read_config
from pissa_repro.model.folder import is_file, read_json
from pissa_repro.model.naming import natural
from pissa_repro.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# For every from_pretrained of a tokenizer, config or model: not set, transformers asks on a terminal and runs code.
LOCAL = {"local_files_only": True, "trust_remote_code": False}
OTHER_PARTS = re.compile("text|vision|image|vq|audio")  # how configs call the models that a multimodal one is made of
# Numbers of a config.json that transformers makes modules and lists of before it looks at any weight.
LAYERS = frozenset(
    {"num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_encoder_layers", "num_decoder_layers"}
    | {"encoder_layers", "decoder_layers"}
)
LABELS = 10**6
# The causal masks of GPT-2, GPT-J and GPT-Neo in older files: a table of what comes before what, (1, 1, n, n), and the
# number that stands for minus infinity, a scalar. The classes make both anew; neither was ever trained. transformers
# itself passes over rotary tables, position indices, and what a class lists (_keys_to_ignore_on_load_unexpected).
MASK = re.compile(r"(^|\.)attn(\.attention)?\.(masked_)?bias$")


def skeleton(folder: str | Path, head: Head | None = None) -> "PreTrainedModel":
    """The folder's model on the meta device, float32: modules, names and shapes; no weight is read, no memory taken.

    head: of a model that gives classes; the files may lack it, or hold another one. Raises UserError for damaged files,
    for what is no language model of text or needs code from the hub, and where its weights are not those of the files:
    one is missing, has another shape, is there twice, or is not used.
    """
    tensors, generation = stored(folder), Path(folder) / "generation_config.json"
    if is_file(generation):
        read_json(generation)  # of a damaged one transformers would say nothing
    _refuse_counts(folder, len(tensors))
    with as_user_error(folder):
        config = own_config(folder, head)
        with torch.device("meta"):
            model = architecture(config).auto().from_config(config, dtype=torch.float32, trust_remote_code=False)
        _refuse_start(folder, model)
        _refuse_twice(folder, model, tensors)
        lacking = classes.fresh(folder, model, tensors) if head else []
        _refuse_other_weights(folder, model, tensors, lacking, classes.other_heads(folder, config) if lacking else ())
    return model


def trainable(folder: str | Path) -> "PreTrainedModel":
    """The skeleton of a folder that may be trained on words or on classes; where on both, the one for words.

    Of an encoder such as BERT, or of a head for classes, whatever their number is. As `skeleton`.
    """
    from transformers import AutoConfig

    with as_user_error(folder):
        config = AutoConfig.from_pretrained(folder, **LOCAL)
    head = classes.any_head(config) if _other_architecture(config) else None
    return skeleton(folder, head)


def bare(folder: str | Path) -> "PreTrainedModel":
    """The model that config.json alone describes, on the meta device, whatever the weights beside it are: a residual's.

    Raises UserError for a config that transformers knows no model of.
    """
    from transformers import AutoConfig

    with as_user_error(folder), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, **LOCAL)
        return architecture(config).auto().from_config(config, trust_remote_code=False)


def _refuse_counts(folder: str | Path, tensors: int) -> None:
    """Raise UserError for more layers in config.json than tensors in the files: to build them could take days."""
    content = read_config(folder)
    for part in (content, *(value for value in content.values() if isinstance(value, dict))):
        for key, value in part.items():
            most = tensors if key in LAYERS else LABELS if key == "num_labels" else None
            if most is not None and isinstance(value, int) and value > most:
                shown = str(value)[:12]
                raise UserError(f"{folder}: {key} in config.json is {shown}, the files hold {tensors} tensors.")


def folder_architecture(folder: str | Path) -> Architecture:
    """The architecture of the model in a folder, which may be none that is trained here."""
    from transformers import AutoConfig

    with as_user_error(folder):
        return architecture(AutoConfig.from_pretrained(folder, **LOCAL))


def own_config(folder: str | Path, head: Head | None = None) -> "PretrainedConfig":
    """The folder's transformers config, with the attention and experts that transformers chooses by itself.

    A config.json can name others, even some to be fetched from the hub. head: of a model that gives classes, whose
    config then says so. Raises UserError for an architecture that cannot be trained here, such as Mamba.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, **LOCAL)
    if head:
        classes.configure(folder, config, head)
    elif reason := _other_architecture(config):
        raise UserError(
            f"{folder}: a {config.model_type} model cannot be trained or scored here: {reason}. Choices: causal "
            "language models of text (Llama, Mistral, Gemma, Qwen, GPT-2, ...) and encoder-decoders of text (T5, BART, "
            "...). Initialisation and quantization error work without training."
        )
    config._attn_implementation = config._experts_implementation = None  # of its parts too
    return config


def _other_architecture(config: "PretrainedConfig") -> str | None:
    """Why a config is no text-only language model of attention, causal or with an encoder, if it is none."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    if is_classifier(config.architectures):
        return "its head gives classes and no words (sequence classification): train it on rows with a `label`"
    if architecture(config) is SEQ2SEQ:
        return _other_encoder_decoder(config)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return "it is no causal language model"
    if parts := [name for name in config.sub_configs if OTHER_PARTS.match(name)]:
        return f"it is put together of several models ({', '.join(parts)})"
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", True):  # BERT and its kin
        return "its tokens see those that follow (is_decoder is false in config.json)"
    # Fast kernels of such models read weights past the factors on them.
    if getattr(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], "_is_stateful", False):
        return "it keeps a running state (Mamba and its kin), where factors and padded batches are not tested"
    return None


def _other_encoder_decoder(config: "PretrainedConfig") -> str | None:
    """Why a config is no encoder-decoder whose two halves are one model of text, if it is none."""
    from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

    if type(config) not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        return "it has an encoder and a decoder, but not to read text and write text"
    if config.sub_configs:
        return f"it is put together of several models ({', '.join(config.sub_configs)})"
    return None


def _refuse_start(folder: str | Path, model: "PreTrainedModel") -> None:
    """Raise UserError for a decoder that does not begin with one token, the same in training and in generation."""
    if architecture(model.config) is not SEQ2SEQ:
        return
    start = model.config.decoder_start_token_id
    if type(start) is not int:
        raise UserError(f"{folder}: config.json names no decoder_start_token_id, which an answer has to begin with.")
    shifted: Any = model.prepare_decoder_input_ids_from_labels(torch.tensor([[3, 4]]))  # type: ignore[operator]
    if shifted.tolist() != [[start, 3]]:
        raise UserError(
            f"{folder}: a {model.config.model_type} model begins its answers with a token of each example, as of its "
            "language, and no one for all (decoder_start_token_id). Choose a model of one language, such as T5 or BART."
        )


@contextmanager
def as_user_error(folder: str | Path, kind: str = "model") -> Iterator[None]:
    """Turn whatever a folder's files make transformers raise into one UserError, without its report of keys.

    kind: what is loaded, for the message.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    log = logging.getLogger("transformers.modeling_utils")
    before, log.disabled = log.disabled, True  # a level would make transformers compare plans for several cards
    try:
        yield
    except UserError:
        raise
    except (
        Exception
    ) as error:  # TypeError, KeyError, AttributeError, ...: a class meets a value that it does not expect
        name = "" if isinstance(error, (ValueError, OSError, RuntimeError)) else f"{type(error).__name__}: "
        text = name + " ".join(str(error).split())
        if "custom code" in text:
            text = "it needs custom code, which is never run here. Take a model that transformers has a class for."
        raise UserError(f"{folder}: transformers cannot load this {kind}: {text}") from error
    finally:
        log.disabled = before


def conversions(model: "PreTrainedModel") -> list[Any]:
    """How transformers renames, splits and joins a file's tensors for this class."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    return get_model_conversion_mapping(model, None, None)


def places(model: "PreTrainedModel", tensors: Iterable[str]) -> Iterator[tuple[str, str, str | None]]:
    """(tensor, weight, pattern) for each tensor of the files: the weight of the model that it becomes, or a part of.

    pattern: by which a converter of transformers knows the tensor; None for one that is a weight as it is. The name of
    a weight that the model does not have is that of a tensor which is not used.
    """
    from transformers.core_model_loading import WeightConverter, rename_source_key

    steps, needed, prefix = conversions(model), model.state_dict(), model.base_model_prefix
    renamings, converters = ([s for s in steps if isinstance(s, WeightConverter) == kind] for kind in (False, True))
    for name in tensors:
        place, pattern = rename_source_key(name, renamings, converters, prefix, needed)
        if place not in needed and name in needed:  # it has the model's own name, which no step is for
            place, pattern = rename_source_key(name, [], [], prefix, needed)
        yield name, place, pattern


def _refuse_twice(folder: str | Path, model: "PreTrainedModel", tensors: Iterable[str]) -> None:
    """Raise UserError for two tensors that become one parameter, as with the base model's name in front and without."""
    found: dict[str, str] = {}
    for name, place, pattern in places(model, tensors):
        if pattern is None and (other := found.setdefault(place, name)) != name:
            raise UserError(f"{folder}: {other} and {name} are one weight of {type(model).__name__}. Keep one of them.")


def _refuse_other_weights(
    folder: str | Path,
    model: "PreTrainedModel",
    tensors: dict[str, Stored],
    fresh: Iterable[str] = (),
    others: tuple[str, ...] = (),
) -> None:
    """Raise UserError where transformers would leave weights of the files out, or make some up at random.

    fresh: parameters that may be missing. others: what the names begin with of those that may be left out.
    """
    from transformers.core_model_loading import convert_and_load_state_dict_in_model
    from transformers.modeling_utils import LoadStateDictConfig

    place = {"": "meta"}
    empty = {name: torch.empty(tensor.shape, device="meta") for name, tensor in tensors.items()}
    asked = LoadStateDictConfig(weight_mapping=conversions(model), device_map=place, dtype=torch.float32)
    report, _ = convert_and_load_state_dict_in_model(model, empty, asked, None)
    model.tie_weights(missing_keys=report.missing_keys, recompute_mapping=False)
    model._adjust_missing_and_unexpected_keys(report)
    kind = type(model).__name__
    for name, found, needed in sorted(report.mismatched_keys):
        raise UserError(f"{folder}: {name} is {tuple(found)}, {kind} needs {tuple(needed)} by this config.json.")
    if missing := report.missing_keys - set(fresh):
        raise UserError(f"{folder}: {kind} needs {min(missing, key=natural)}, which the files do not hold.")
    if report.conversion_errors:
        name, error = min(report.conversion_errors.items())
        raise UserError(f"{folder}: {kind} cannot make {name} of the files' tensors: {' '.join(error.split())}")
    left_out = {name for name in report.unexpected_keys if name.startswith(others)} if others else set()
    if unused := report.unexpected_keys - _masks(tensors, report.unexpected_keys) - left_out:
        raise UserError(
            f"{folder}: the files hold {min(unused, key=natural)}, which {kind} does not use by this config.json "
            f"({len(unused)} such tensors): another model would be trained. "
            "Use the config.json that belongs to these weights."
        )


def _masks(tensors: dict[str, Stored], names: set[str]) -> set[str]:
    """Those of the names, which may carry the base model's in front, that are causal masks."""
    masks = [n for n, t in tensors.items() if MASK.search(n) and (not t.shape or t.shape[:2] == (1, 1))]
    return {name for name in names if any(name == mask or name.endswith(f".{mask}") for mask in masks)}
