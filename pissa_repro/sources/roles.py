"""The roles that a dataset's fields may play, and what a value must be: a text, or a list of texts."""

import reprlib
from typing import Any

from pissa_repro.runtime.errors import UserError

KINDS = {"text": "a text", "texts": "a list of texts"}
ROLES = {  # each with its kind; task files declare the same for those that they read
    "prompt": "text",
    "response": "text",
    "answer": "text",
    "category": "text",
    "entry_point": "text",
    "imports": "texts",
    "label": "text",
    "reference": "texts",
    "test": "text",
    "tests": "texts",
    "text": "text",
    "text_pair": "text",
    "turns": "texts",
}
OPTIONAL = ("reference",)  # roles that some rows of a dataset may leave out
CHATS = ("messages", "conversations")  # the usual names of a field that holds a conversation
NO_CHATS = " Chats are not read: write the user's words into a prompt field and the assistant's into a response field."

NO_REGRESSION = "a label names a class. To predict a number (regression, as of STS-B) is not trained here."


def role_values(row: dict[str, Any], fields: dict[str, str], place: str, number: int) -> dict[str, Any]:
    """The row's values under the names of their roles: texts, lists of texts, or None for an optional role.

    A whole number is written as a text. NaN is null, as in tables that pandas has written. One text for a list
    is a list of it. Raises UserError for a field that is missing or null, and for any value that is no text:
    it names the row (its number in the file, from 0), the field and what it has.
    """
    values: dict[str, Any] = {}
    for role, name in fields.items():
        where = f"{place}.fields.{role}: row {number}"
        value = row.get(name)
        if value is None or value != value:  # NaN is not itself
            if role not in OPTIONAL:
                raise UserError(f"{where} has null in field '{name}'." if name in row else _absent(where, name, row))
            values[role] = None
        elif role == "label" and isinstance(value, float):
            raise UserError(f"{where} has {value!r} in field '{name}': {NO_REGRESSION}")
        else:
            values[role] = _value(ROLES.get(role, "text"), value, f"{where} has {{}} in field '{name}'")
    return values


def _absent(where: str, name: str, row: dict[str, Any]) -> str:
    hint = NO_CHATS if any(chat in row for chat in CHATS) else ""
    return f"{where} has no field '{name}'. It has: {', '.join(row)}.{hint}"


def _value(kind: str, value: Any, where: str) -> str | list[str]:
    """The value as its kind asks. where: the start of the message, with a gap for what is there instead."""
    if kind == "texts":
        items = [value] * bool(value) if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise UserError(_refusal(kind, value, where))
        return [_encodable(item, where) for item in items]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise UserError(_refusal(kind, value, where))
    return _encodable(value, where)


def _refusal(kind: str, value: Any, where: str) -> str:
    hint = " A number that is not whole has several spellings: put it into quotes." if isinstance(value, float) else ""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        hint = NO_CHATS
    found = f"a {type(value).__name__} ({reprlib.repr(value)[:80]})"
    return f"{where.format(found)}; {KINDS[kind]} is needed.{hint}"


def _encodable(text: str, where: str) -> str:
    """The text. Raises UserError for half of a surrogate pair, which is no character and has no bytes in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"half of a surrogate pair (\\u{ord(text[error.start]):04x}, character {error.start})"
        raise UserError(f"{where.format(found)}: it is no character. Was a text cut there?") from None
    return text
