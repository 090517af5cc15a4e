"""Read config files as Snakemake does, and refuse what YAML or JSON would quietly read as something else."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pissa_repro.runtime.errors import UserError

MOST_VALUES, MOST_LEVELS, LONGEST_LIST, LONGEST_TEXT = 100_000, 32, 1_000, 4_096
TEXT, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
ODD_NUMBER = re.compile(r"[-+]?0[0-9_bx]|.*:")  # octal, binary, hexadecimal, and 1:30, which YAML 1.1 takes for 90
HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # control characters, lone surrogates
WHOLE = 2**53  # floats below it hold every whole number
BROKEN = (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError)  # of PyYAML, by the input
QUOTES = "put it into quotes if it is meant as a text"


def read(path: str | Path) -> dict[str, Any]:
    """The content of a config file, JSON or YAML.

    Raises UserError, with the line where YAML knows it, for what is no mapping, a key that is given twice, a key that
    YAML does not read as a text, and a number that is not written in decimals.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML: byte {error.start} is not UTF-8; save the file as UTF-8.") from None
    try:
        content = _parsed(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except BROKEN as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"{path}: not valid YAML: {reason}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a config is a mapping of sections, this is a {type(content).__name__}.")
    return content


def _parsed(text: str) -> Any:
    """The content of a text: first as JSON, then as YAML, which is Snakemake's order."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except ValueError:
        pass
    loader = yaml.SafeLoader(text)
    try:
        node, sizes = loader.get_single_node(), dict[int, int]()
        for part in _parts(node):
            if isinstance(part, yaml.MappingNode):
                _check_keys(part)
                _check_merges(part, sizes)
            elif part.tag in NUMBERS and part.style is None and ODD_NUMBER.match(part.value):
                value = loader.construct_object(part)
                raise UserError(f"{_line(part)}: YAML reads {part.value} as {value}. Write that, or {QUOTES}.")
        return loader.construct_document(node) if node else None
    finally:
        loader.dispose()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise UserError(f"the key '{key}' is given twice in one mapping. Keep one of them.")
        found[key] = value
    return found


def _parts(root: yaml.Node | None) -> Iterator[Any]:
    """Every node of a document once, however often aliases name it."""
    waiting, seen = [root] if root else [], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += [value for _, value in reversed(node.value)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)


def _check_keys(mapping: yaml.MappingNode) -> None:
    """Refuse keys that are no texts, and those that the file gives twice; `<<` merges another mapping's."""
    lines: dict[str, str] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag not in (TEXT, MERGE):
            kind = key.tag.rpartition(":")[2]
            raise UserError(
                f"{_line(key)}: the key {_shown(key)} is of type {kind} to YAML, and keys are texts: {QUOTES}."
            )
        if key.value in lines:
            twice = f"{lines[key.value]} and {_line(key)}"
            raise UserError(f"the key '{key.value}' is given twice in one mapping: {twice}. Keep one of them.")
        lines[key.value] = _line(key)


def _check_merges(mapping: yaml.MappingNode, sizes: dict[int, int]) -> int:
    """How many pairs a mapping has with those that `<<` merges into it. sizes: of the mappings that were counted."""
    if id(mapping) not in sizes:
        merged = [value for key, value in mapping.value if key.tag == MERGE]
        merged += [one for value in merged if isinstance(value, yaml.SequenceNode) for one in value.value]
        others = (one for one in merged if isinstance(one, yaml.MappingNode))
        sizes[id(mapping)] = len(mapping.value) + sum(_check_merges(other, sizes) for other in others)
        if sizes[id(mapping)] > MOST_VALUES:
            raise UserError(f"{_line(mapping)}: '<<' merges more than {MOST_VALUES:,} values; is an alias repeated?")
    return sizes[id(mapping)]


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _shown(node: yaml.Node) -> str:
    return f"'{node.value}'" if isinstance(node, yaml.ScalarNode) else "that is no word"


def merge(target: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Lay a config over another: mappings merge, lists are replaced."""
    for key, value in extra.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value


def plain(given: Any, place: str = "config") -> Any:
    """A config as plain types of its own; a number that is whole is an int, so that 4 and 4.0 are one value.

    Raises UserError for what JSON cannot hold, for hidden characters, and for more than any config needs: aliases of
    YAML can multiply without end.
    """
    return _plain(given, place, 0, [MOST_VALUES])


def _plain(given: Any, place: str, level: int, left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0 or level > MOST_LEVELS:
        raise UserError(f"{place}: more than {MOST_VALUES:,} values or {MOST_LEVELS} levels; is an alias repeated?")
    if isinstance(given, Mapping):
        return {_key(key, place): _plain(value, f"{place}.{key}", level + 1, left) for key, value in given.items()}
    if isinstance(given, list | tuple):
        if len(given) > LONGEST_LIST:
            raise UserError(f"{place}: a list of {len(given):,} values; {LONGEST_LIST:,} is the most.")
        return [_plain(value, f"{place}.{number}", level + 1, left) for number, value in enumerate(given)]
    return _scalar(given, place)


def _key(key: Any, place: str) -> str:
    if not isinstance(key, str):
        raise UserError(f"{place}: the key {short(key)} is of type {type(key).__name__}, and keys are texts: {QUOTES}.")
    return str(_scalar(key, f"{place}, a key"))


def _scalar(value: Any, place: str) -> str | int | float | bool | None:
    if isinstance(value, str):
        return _visible(value, place)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() and abs(value) < WHOLE else value
    if isinstance(value, int) and abs(value) < 2**63:
        return int(value)
    if isinstance(value, int | float):
        raise UserError(f"{place}: {short(value)} is not finite, or too large.")
    raise UserError(f"{place}: {short(value)} is of type {type(value).__name__} to YAML: {QUOTES}.")


def _visible(text: str, place: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise UserError(f"{place}: {short(text)} has {len(text):,} characters; {LONGEST_TEXT:,} is the most.")
    if found := HIDDEN.search(text):
        raise UserError(f"{place}: {short(text)} holds the character U+{ord(found[0]):04X}, which cannot be shown.")
    return text


def short(value: Any) -> str:
    """A value in a message: what cannot be shown is escaped, and what is long is cut."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of more digits than Python writes
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text):,} characters)"
