"""Configs laid over one another: where a later one says another way to find a model or rows, the earlier way goes.

Mappings merge, so a `path` laid over a `hub` would leave both, and a source has one.
"""

from collections.abc import Iterable, Mapping
from typing import Any

# The ways to find one, each with the keys that may stand beside it; the first key says which way is meant.
WAYS = {
    "models": (("path",), ("hub", "revision")),
    "datasets": (("path", "fields"), ("hub", "revision", "file", "fields"), ("of", "share", "seed", "without")),
}
SHARES = (("share", "seed"), ("without",))  # of a dataset that is a part of another one
Keys = set[tuple[str, str, str]]  # section, name, key


def replaced_by(layers: Iterable[Mapping[str, Any]]) -> Keys:
    """The keys that a layer may have given and a later one replaces. layers: configs, the last one wins."""
    replaced: Keys = set()
    for layer in layers:
        for section, ways in WAYS.items():
            content = layer.get(section)
            for name, given in content.items() if isinstance(content, Mapping) else ():
                if isinstance(given, Mapping):
                    replaced -= {(section, name, key) for key in given}
                    replaced |= {(section, name, key) for key in {*_others(given, ways), *_others(given, SHARES)}}
    return replaced


def settled(merged: Mapping[str, Any], replaced: Keys) -> dict[str, Any]:
    """A config that was merged of layers without the keys that one of these replaces."""
    return {section: _settled(section, content, replaced) for section, content in merged.items()}


def _settled(section: str, content: Any, replaced: Keys) -> Any:
    if section not in WAYS or not isinstance(content, Mapping):
        return content
    return {
        name: {key: value for key, value in given.items() if (section, name, key) not in replaced}
        if isinstance(given, Mapping)
        else given
        for name, given in content.items()
    }


def _others(given: Mapping[str, Any], ways: Iterable[tuple[str, ...]]) -> set[str]:
    """The keys of other ways than those that a layer names; none where it names no way. What it gives itself stays."""
    meant = [way for way in ways if way[0] in given]
    return {key for way in ways for key in way if meant and not any(key in way for way in meant)} - given.keys()
