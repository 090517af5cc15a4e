"""Sequence classification: the classes that rows name, and the head that gives a logit for each of them.

A head that the files do not hold is a fresh one, drawn here: transformers would draw it from the generator of the
whole process, so that its bits would depend on what was drawn before.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pissa_repro.model.architecture import is_classifier
from pissa_repro.model.folder import config as read_config
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json, write_json

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

TASK = "classification"  # what a train spec says of a cell that is trained on classes
FILE = "classes.json"  # beside an adapter or whole weights that were trained: the classes, in the order of the logits
NUMBER = re.compile(r"-?[0-9]+")
UNNAMED = re.compile(r"LABEL_[0-9]+")  # how transformers calls the classes of a head that nobody has named
# Whose weights a fresh head may be put on: language models, and models without a head.
HEADLESS = ("ForCausalLM", "LMHeadModel", "ForMaskedLM", "ForPreTraining", "Model")


class Head(NamedTuple):
    """What a head has to give. classes: as the rows write them; seed: of the draws, where it is a fresh one."""

    classes: tuple[str, ...]
    seed: int


def named(rows: Iterable[Mapping[str, Any]], place: str) -> tuple[str, ...]:
    """The classes of rows with a role `label`: numbers in their order, other names by the alphabet.

    Raises UserError for fewer than two, and for a number below 0, as where the labels of a test set are hidden.
    """
    ordered = in_order({row["label"] for row in rows})
    if NUMBER.fullmatch(ordered[0]) and ordered[0].startswith("-"):
        raise UserError(
            f"{place}: label {ordered[0]}. Classes are names, or numbers from 0 on; GLUE says -1 where they are hidden."
        )
    if len(ordered) < 2:
        raise UserError(f"{place}: every row has the label {', '.join(ordered)}; a training needs two classes or more.")
    return tuple(ordered)


def in_order(names: set[str]) -> list[str]:
    """Numbers in their order, other names by the alphabet."""
    return sorted(names, key=int) if all(map(NUMBER.fullmatch, names)) else sorted(names)


def refuse_unseen(rows: Iterable[Mapping[str, Any]], classes: Iterable[str], place: str) -> None:
    """Raise UserError for a row whose label is none of the classes."""
    known = set(classes)
    for number, row in enumerate(rows):
        if row["label"] not in known:
            raise UserError(
                f"{place}: row {number} has the label {row['label']!r}, which no row of the training has. "
                f"Choices: {', '.join(classes)}."
            )


def configure(folder: str | Path, config: "PretrainedConfig", head: Head) -> None:
    """Make a model's transformers config that of a classifier with these classes, in the order of its own head.

    Raises UserError for a model that has no such class in transformers, and for a head with other classes.
    """
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    if reason := _no_classifier(config):
        raise UserError(
            f"{folder}: a {config.model_type} model cannot be trained on classes here: {reason}. Choices: language "
            "models with one stack of layers (BERT, RoBERTa, Llama, GPT-2, ...), with a head for classes or without."
        )
    classes = head.classes
    if is_classifier(config.architectures):
        classes = _of_own_head(folder, config, classes)
    config.num_labels = len(classes)
    config.id2label, config.label2id = dict(enumerate(classes)), {name: i for i, name in enumerate(classes)}
    config.problem_type = "single_label_classification"
    kind: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    config.architectures = [kind.__name__]


def _no_classifier(config: "PretrainedConfig") -> str | None:
    """Why a model is none whose text gets classes, if it is none."""
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    if getattr(config, "is_encoder_decoder", False):
        return "it has an encoder and a decoder"
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return "transformers has no class for it that classifies texts"
    if config.sub_configs:
        return f"it is put together of several models ({', '.join(config.sub_configs)})"
    for name in config.architectures or ():
        if not is_classifier([name]) and not name.endswith(HEADLESS):
            return f"its files are those of a {name}, whose head is for something else"
    return None


def _of_own_head(folder: str | Path, config: "PretrainedConfig", classes: tuple[str, ...]) -> tuple[str, ...]:
    """The classes in the order of the head that the files hold. Raises UserError for others than the rows name."""
    own = _names(config)
    say = f"{folder}: the head has {len(own)} classes ({', '.join(own[:8])}), the rows {len(classes)}"
    if len(own) != len(classes):
        raise UserError(
            f"{say} ({', '.join(classes[:8])}). Choose rows with the classes of the head, or a model without."
        )
    if set(own) == set(classes):
        return own
    if all(map(UNNAMED.fullmatch, own)):
        return classes
    raise UserError(f"{say} of other names ({', '.join(classes[:8])}). Write the labels as the head names its classes.")


def any_head(config: "PretrainedConfig") -> Head | None:
    """A head that fits a model before its rows are known; None for a model that cannot have one."""
    if _no_classifier(config):
        return None
    return Head(_names(config) if is_classifier(config.architectures) else ("0", "1"), 0)


def _names(config: "PretrainedConfig") -> tuple[str, ...]:
    """The names of a classifier's classes, in the order of the logits."""
    labels: Any = config.id2label
    return tuple(str(labels[number]) for number in sorted(labels))


def modules(model: "PreTrainedModel") -> list[str]:
    """The modules of a classifier that are its head: all with parameters that stand beside the model's layers."""
    return [
        name
        for name, child in model.named_children()
        if name != model.base_model_prefix and next(child.parameters(), None) is not None
    ]


def fresh(folder: str | Path, model: "PreTrainedModel", held: Iterable[str]) -> list[str]:
    """The names of the head's parameters that are drawn anew: of modules of which the files (`held`) have nothing.

    None where config.json says that the files are a classifier's: what is missing there is damage.
    """
    if is_classifier(read_config(folder).get("architectures")):
        return []
    there, found = tuple(held), []
    for module in modules(model):
        if not any(name.startswith(f"{module}.") for name in there):
            found += [f"{module}.{name}" for name, _ in model.get_submodule(module).named_parameters()]
    return found


def other_heads(folder: str | Path, config: "PretrainedConfig") -> tuple[str, ...]:
    """What the names of tensors begin with that the files hold for another head, such as that of a language model.

    A pooler is one too, where the classifier reads the layers without it (RoBERTa).
    """
    import torch
    import transformers

    found: set[str] = set()
    for name in read_config(folder).get("architectures") or ():
        made = getattr(transformers, name, None)
        if made is not None and not is_classifier([name]):
            with torch.device("meta"):
                model = made(config)
            prefix = model.base_model_prefix
            found |= {child for child, _ in model.named_children() if child != prefix} | {"pooler", f"{prefix}.pooler"}
    return tuple(f"{child}." for child in sorted(found))


def draw(model: "PreTrainedModel", names: Iterable[str], seed: int) -> None:
    """Draw these parameters anew, in place: matrices normal with the model's own spread, biases 0, norms 1.

    Each has a generator of its own, by the seed and its name, on the CPU: the bits depend on nothing else.
    """
    import torch

    spread = getattr(model.config.get_text_config(), "initializer_range", None) or 0.02  # transformers' own default
    for name in names:
        parameter = model.get_parameter(name)
        if parameter.ndim < 2:
            parameter.data.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        generator = torch.Generator().manual_seed(
            int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big") % 2**63
        )
        parameter.data.copy_(spread * torch.randn(parameter.shape, generator=generator))


def in_training(model: "PreTrainedModel", lora: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of LoraConfig with the head among the modules that train whole."""
    return {**lora, "modules_to_save": sorted({*(lora.get("modules_to_save") or ()), *modules(model)})}


def widen(model: Any, names: Iterable[str]) -> None:
    """Let these modules, which train in float32, take what layers in another dtype give them."""
    for name in names:
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, given: tuple(one.float() if one.is_floating_point() else one for one in given)
        )


def write(folder: Path, config: "PretrainedConfig") -> None:
    """Write the classes of a model, and the token that pads its texts, into the folder of what its training leaves."""
    pad: Any = config.get_text_config()
    write_json(folder / FILE, {"classes": list(_names(config)), "pad_token_id": pad.pad_token_id})


def loading(folder: str | Path) -> dict[str, int]:
    """What transformers has to be told of a base to put the folder's adapter on it; nothing for one without classes."""
    path = Path(folder) / FILE
    if not path.is_file():
        return {}
    found = read_json(path)
    return {"num_labels": len(found["classes"]), "pad_token_id": found["pad_token_id"]}


def head_of(trained: str | Path, train: Mapping[str, Any]) -> Head | None:
    """The head of a trained cell by what its training has left and its train spec; None for a cell without classes."""
    if train.get("settings", {}).get("task") != TASK:
        return None
    return Head(tuple(read_json(Path(trained) / FILE)["classes"]), train["seed"])
