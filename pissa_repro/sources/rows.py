"""The rows of a dataset, read from a file and given the names of their roles."""

import gzip
import json
import re
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.specs import DataSource
from pissa_repro.sources.prompt import MARKER
from pissa_repro.sources.roles import role_values
from pissa_repro.sources.split import part, taken

READERS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".txt", ".txt.gz")
LONGEST_LINE = 2**26  # bytes of a row of a .jsonl file: one endless line must not fill the memory
LARGEST = 2**31  # bytes of a .json or .txt file, unpacked: it is read as a whole
BATCH = 1024  # rows of a .parquet file that are read at a time


def read_rows(path: str | Path, fields: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a .jsonl, .json (a list), .txt (one row: its "text") or .parquet file, in order; the first
    three may be .gz. UTF-8, with or without a byte order mark. Only a newline ends a line; empty lines do not count.

    fields: the columns that are wanted; those of a .parquet file that are not are None, and never converted.
    Raises UserError that names the file, and the line where there are lines.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such data file.")
    if not path.name.endswith(READERS):
        raise UserError(f"{path}: unknown data format. Choices: {', '.join(READERS)}.")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path, fields)
        return
    readers = {".json": _list_rows, ".txt": _text_row, ".jsonl": _line_rows}
    read = readers[Path(path.name.removesuffix(".gz")).suffix]
    try:
        with _open(path) as file:
            yield from read(file, path)
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged, or not what its name says ({error}).") from None


def _parquet_rows(path: Path, fields: Collection[str] | None) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if twice := {name for name in names if names.count(name) > 1}:
                raise UserError(f"{path}: the column {min(twice)!r} stands twice.")
            wanted = [name for name in names if fields is None or name in fields]
            for batch in file.iter_batches(BATCH, columns=wanted):
                yield from (dict.fromkeys(names) | row for row in batch.to_pylist())
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno:  # the disk's, not the content's
            raise
        raise UserError(f"{path}: damaged, or not what its name says ({error}).") from None


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path) if path.suffix == ".gz" else open(path, "rb"))


def _whole(file: IO[bytes], path: Path) -> str:
    content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise UserError(f"{path}: more than {LARGEST:,} bytes in one piece. Write the rows as .jsonl, a row a line.")
    return content.decode("utf-8-sig")


def _text_row(file: IO[bytes], path: Path) -> Iterator[Any]:
    yield {"text": _whole(file, path).replace("\r\n", "\n")}


def _list_rows(file: IO[bytes], path: Path) -> Iterator[Any]:
    rows = _parsed(_whole(file, path), f"{path}: damaged,")
    if not isinstance(rows, list):
        raise UserError(f"{path}: a .json file of rows must be one list, this is a {type(rows).__name__}.")
    yield from rows


def _line_rows(file: IO[bytes], path: Path) -> Iterator[Any]:
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
        place = f"{path}, line {number}:"
        if len(line) > LONGEST_LINE:
            raise UserError(f"{place} longer than {LONGEST_LINE:,} bytes. Is there no newline between the rows?")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{place} damaged, or not UTF-8 ({error}).") from None
        if text.strip():
            yield _parsed(text, place)


def _parsed(text: str, place: str) -> Any:
    """The value of a JSON text. Raises UserError where it is none, nested too deeply, or names a key twice."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise UserError(f"{place} nested too deeply to be read.") from None
    except ValueError as error:
        raise UserError(f"{place} not JSON ({error}).") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a key that stands twice nobody knows which value is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice in an object")
    return found


def gsm8k_response(answer: str) -> str:
    """A GSM8K answer as MetaMathQA writes it: no calculator notes, "The answer is: N" at the end."""
    work, mark, tail = re.sub(r"<<[^>]*>>", "", answer).rpartition("####")
    number = tail.strip()
    if not mark or not number or "\n" in number or not tail.strip(" ").startswith(number[0]):
        raise UserError(f"response_format gsm8k: no line '#### N' at the end of {answer[-60:]!r}.")
    return work.removesuffix("\n") + f"\n{MARKER}{number}"


RESPONSES = {"plain": lambda text: text, "gsm8k": gsm8k_response}


def select(rows: Iterable[Any], source: DataSource, place: str) -> list[dict[str, Any]]:
    """The rows that a dataset takes, under the names of their roles (prompt, response, test, ...), by its `fields`.

    `rows` and `parts` say which; every value is a text, or a list of texts (roles.role_values). Raises UserError for
    a field that is missing, empty (null) or no text, for no rows at all, or for fewer rows than asked for.
    """
    formed: Iterable[dict[str, Any]] = _formed(taken(enumerate(rows), source.get("rows"), place), source, place)
    for depth, wanted in enumerate(source.get("parts", [])):
        formed = part(formed, wanted, depth, place)
    if not (picked := list(formed)):
        raise UserError(f"{place}: the dataset is empty.")
    return picked


def _formed(rows: Iterable[tuple[int, Any]], source: DataSource, place: str) -> Iterator[dict[str, Any]]:
    """The rows under the names of their roles, with responses in their form."""
    form = RESPONSES[source.get("response_format", "plain")]
    for number, row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{place}: row {number} is a {type(row).__name__}, not an object with named fields.")
        named = role_values(row, source["fields"], place, number)
        try:
            yield named | {"response": form(named["response"])} if "response" in named else named
        except UserError as error:
            raise UserError(f"{place}: row {number}: {error}") from None
