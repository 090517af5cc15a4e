"""What the rows of a sweep are called: one label for each (method, quant), and why the config treats some apart.

Tables, claims, captions, legends and CSV files all take their words from here. A label follows from the definition of
the method, never from its place in the config.
"""

from collections.abc import Iterable

from pissa_repro import methods
from pissa_repro.plan import parts
from pissa_repro.plan.sections import Config, NamedMethod
from pissa_repro.runtime.errors import UserError

NAMED = ("none", "nf4")  # what display names stand for: QLoRA (arXiv 2305.14314) and QPiSSA are names on nf4
Pair = tuple[str, str]  # a method of the config and its quantization


def labels(config: Config, definitions: dict[str, NamedMethod]) -> dict[Pair, str]:
    """The label of each swept (method, quant), no two alike; definitions: of the swept methods.

    The method's display name; in brackets the name that the config gives it, where that is not the name of its file,
    and any other quantization than nf4. A `display` of the config stands as it is, unless two rows would have it.
    Raises UserError where labels are still alike.
    """
    short = {pair: _label(pair, definitions[pair[0]]) for pair in parts.pairs(config)}
    shown = {
        pair: f"{_name(pair, definitions[pair[0]])} ({', '.join(pair)})" if _alike(text, short) else text
        for pair, text in short.items()
    }
    for pair, text in shown.items():
        if _alike(text, shown):
            place = f"config.methods.{pair[0]}"
            raise UserError(
                f"{place}: two rows would be called {text!r} in tables. Give one of them another 'display'."
            )
    return shown


def _alike(text: str, shown: dict[Pair, str]) -> bool:
    return list(shown.values()).count(text) > 1


def _name(pair: Pair, definition: NamedMethod) -> str:
    return definition.get("display") or methods.display(definition["init"], pair[1])


def _label(pair: Pair, definition: NamedMethod) -> str:
    (method, quant), name = pair, _name(pair, definition)
    if definition.get("display"):
        return name
    fields = [f"{key}={v}" if isinstance(v, int | float) else key for key, v in sorted(definition["lora"].items())]
    notes = fields if method == definition["init"] else [method]
    notes = notes + [quant] * (quant not in NAMED)
    return f"{name} ({', '.join(notes)})" if notes else name


def paper_method(definition: NamedMethod) -> str | None:
    """The method in the words of paper/published.py: its init, "+dora" with DoRA; None with other LoraConfig fields."""
    if not definition["lora"]:
        return definition["init"]
    return f"{definition['init']}+dora" if definition["lora"] == {"use_dora": True} else None


def by_reason(rows: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    """Why overrides change some rows, in words, each reason once. rows: label and reasons of each."""
    changed: dict[str, dict[str, None]] = {}
    for label, why in rows:
        for reason in why:
            changed.setdefault(reason, {})[label] = None
    return [f"{', '.join(shown)}: {reason}" for reason, shown in changed.items()]
