"""What the names of a model's modules say: which a target stands for, and of which type a projection is."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from pissa_repro.runtime.errors import UserError

# transformers' Conv1D (pytorch_utils.py) stores (in, out). These model types build layers of these names
# from it (their modeling_*.py in transformers 5.19); a test compares with the installed source.
CONV1D_TYPES = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp", "clvp_decoder"}
CONV1D_LAYERS = frozenset({"c_attn", "q_attn", "c_proj", "c_fc"})

# What transformers calls its nn.Embedding in language models; no nn.Linear there has such a name (same test).
EMBEDDING = re.compile(
    r"wte|wpe|shared|relative_attention_bias|embed_(in|tokens|positions)|(tokens|positions)_embed|embeddings?"
    r"|(word|tok|token|token_type|position|distance)_embeddings?"
)
ORDER = ("q", "k", "v", "o", "gate", "up", "down")  # as papers list them; the others follow


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key under which layer 10 comes after layer 2."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def matching(names: list[str], targets: list[str]) -> dict[str, list[str]]:
    """The modules that each target stands for: those whose name ends in it.

    Raises UserError for a target that matches no module.
    """
    modules = [name.removesuffix(".weight") for name in names if name.endswith(".weight")]
    ending = defaultdict(list)  # the modules by each of their endings: thousands of experts may be named one by one
    for module in modules:
        parts = module.split(".")
        for first in range(len(parts)):
            ending[".".join(parts[first:])].append(module)
    matches = {target: ending.get(target, []) for target in targets}
    for target, hits in matches.items():
        if not hits:
            layers = sorted({name.rsplit(".", 1)[-1] for name in modules})
            raise UserError(
                f"target_modules of config.train, config.studies or a method: '{target}' matches no module of the "
                f"model. Its modules end in: {', '.join(layers)}."
            )
    return matches


def counterparts(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """The one of `others` that each of `names` is; those without one are left out.

    Files and classes may have the base model's name in front or not: GPT-2's h.0 is transformer.h.0.
    """
    known = set(others)
    shorter = {other.partition(".")[2]: other for other in known}
    found = {}
    for name in names:
        forms = (name, shorter.get(name), name.partition(".")[2])
        if (other := next((form for form in forms if form in known), None)) is not None:
            found[name] = other
    return found


def conv1d_layers(config: dict[str, Any]) -> frozenset[str]:
    """The last components of the modules that a model stores as (in, out), from its config.json.

    Also for a model that is put together from others (encoder and decoder, each with a config).
    """
    parts = [config, *(value for value in config.values() if isinstance(value, dict))]
    return CONV1D_LAYERS if any(str(part.get("model_type")) in CONV1D_TYPES for part in parts) else frozenset()


def is_embedding(module: str) -> bool:
    """Whether a module is an embedding, by its name."""
    return EMBEDDING.fullmatch(module.rsplit(".", 1)[-1]) is not None


def is_numbered(module: str) -> bool:
    """Whether a module lies inside a numbered layer."""
    return any(part.isdigit() for part in module.split(".")[: _leaf(module)])


def types(modules: Iterable[str]) -> dict[str, str]:
    """The projection type of each module, for tables: its last component, without layer numbers.

    Where the same last component has different parents, the parent is in front: attn.c_proj, mlp.c_proj.
    """
    split = {module: (_parent(module), _suffix(module, _leaf(module))) for module in modules}
    parents = defaultdict(set)
    for parent, leaf in split.values():
        parents[leaf].add(parent)
    return {m: f"{parent}.{leaf}" if len(parents[leaf]) > 1 else leaf for m, (parent, leaf) in split.items()}


def suffixes(modules: list[str], others: Iterable[str]) -> list[str]:
    """Short names, as in target_modules, that stand for all of `modules` and for none of `others`.

    The last component where that tells the types apart (q_proj); else all carry their parent
    (attn.c_proj), and more components where `others` end in the same.
    """
    taken = {_suffix(other, begin) for other in others for begin in range(other.count(".") + 1)}
    with_parent = any(kind != _suffix(module, _leaf(module)) for module, kind in types(modules).items())
    short: dict[str, None] = {}
    for module in sorted(modules, key=natural):
        begin = _leaf(module)
        if with_parent and begin and not module.split(".")[begin - 1].isdigit():
            begin -= 1
        while begin and _suffix(module, begin) in taken:
            begin -= 1
        short[_suffix(module, begin)] = None
    return sorted(short, key=order)


def _leaf(module: str) -> int:
    """Where the last component begins; numbers at the end (mlp.0) are a part of it."""
    parts = module.split(".")
    return max((i for i, part in enumerate(parts) if not part.isdigit()), default=0)


def _parent(module: str) -> str:
    words = [part for part in module.split(".")[: _leaf(module)] if not part.isdigit()]
    return words[-1] if words else ""


def _suffix(module: str, begin: int) -> str:
    return ".".join(module.split(".")[begin:])


def order(name: str) -> int:
    """Where a projection type stands among the others in a table; for sorting."""
    leaf = name.rsplit(".", 1)[-1].removesuffix("_proj")
    return ORDER.index(leaf) if leaf in ORDER else len(ORDER)
