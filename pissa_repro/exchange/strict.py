"""Files of others, read without trust: small, JSON, finite, and with the fields that their format has."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pissa_repro.runtime.errors import UserError

LARGEST = 16 * 2**20  # bytes; the results that are known have some ten thousand
HUGE = 1e300  # numbers beyond are none; Python reads whole ones of any size


def load(path: Path, place: str) -> dict[str, Any]:
    """The mapping in a JSON file. Raises UserError that names place and file for anything else."""
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise UserError(f"{place}: {path} has {size:,} bytes; {LARGEST:,} is the most that is read.")
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise UserError(f"{place}: {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: {path} is no JSON of finite numbers ({error}).") from None
    if not isinstance(found, dict):
        raise UserError(f"{place}: {path} holds a {type(found).__name__}, and a file of results is a mapping.")
    return found


def _refuse(word: str) -> Any:
    raise ValueError(f"it holds {word}")


class Fields:
    """The values of a mapping by dotted names. file, place: for messages. format: what the file should be."""

    def __init__(self, values: Mapping[str, Any], file: Path, place: str, format: str):
        self.values, self.file, self.place, self.format = values, file, place, format

    def get(self, *names: str, default: Any = None) -> Any:
        """The value, or the default where there is none on the way."""
        value: Any = self.values
        for name in names:
            if not isinstance(value, Mapping) or name not in value:
                return default
            value = value[name]
        return value

    def text(self, *names: str) -> str:
        """A text. Raises UserError where there is none."""
        return str(self._of(str, "a text", names))

    def number(self, *names: str) -> float:
        """A finite number. Raises UserError where there is none."""
        value = self._of((int, float), "a number", names)
        if isinstance(value, bool) or not abs(value) < HUGE:
            raise self.wrong(names, f"is {value!r}, which is no finite number")
        return value

    def count(self, *names: str) -> int | None:
        """A whole number from 0, or None where there is none. Raises UserError for anything else."""
        value = self.get(*names)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < HUGE):
            return value
        raise self.wrong(names, f"is {value!r}, which is no count")

    def fraction(self, *names: str) -> float:
        """A score as a fraction of 1. Raises UserError for a number outside, such as one in percent."""
        value = self.number(*names)
        if not 0 <= value <= 1:
            raise self.wrong(names, f"is {value:g}; a score is a fraction of 1 there")
        return value

    def sub(self, *names: str) -> "Fields":
        """The fields of a mapping inside. Raises UserError where there is none."""
        return Fields(self._of(Mapping, "a mapping", names), self.file, self.place, self.format)

    def _of(self, kind: Any, word: str, names: tuple[str, ...]) -> Any:
        value = self.get(*names)
        if value is None:
            raise self.wrong(names, "is missing")
        if not isinstance(value, kind):
            raise self.wrong(names, f"is {str(value)[:60]!r}, which is not {word}")
        return value

    def wrong(self, names: tuple[str, ...], words: str) -> UserError:
        """Build the error for a field that is not as the format has it."""
        return UserError(
            f"{self.place}: {self.file}: '{'.'.join(names)}' {words}. Is it {self.format}, of a version that is known?"
        )
