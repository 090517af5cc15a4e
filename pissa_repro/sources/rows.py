"""The rows of a dataset, read from a file and given the names of their roles."""

import gzip
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.specs import DataSource
from pissa_repro.sources.prompt import MARKER

READERS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".txt", ".txt.gz")
OPTIONAL = ("reference",)  # roles that some rows of a dataset may leave out


def read_rows(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows of a .jsonl, .json (a list), .txt (one row: its "text") or .parquet file, in order; the first
    three may be .gz. Empty lines do not count.

    Raises UserError that names the file, and the line where there are lines.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such data file.")
    if not path.name.endswith(READERS):
        raise UserError(f"{path}: unknown data format. Choices: {', '.join(READERS)}.")
    readers = {".parquet": _parquet_rows, ".json": _list_rows, ".txt": _text_row}
    read = readers.get(Path(path.name.removesuffix(".gz")).suffix, _line_rows)
    try:
        yield from read(path)
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:  # pyarrow's and UTF-8's are ValueErrors
        raise UserError(f"{path}: damaged, or not what its name says ({error}).") from None


def _parquet_rows(path: Path) -> Iterator[Any]:
    import pyarrow.parquet

    for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


def _open(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")


def _text_row(path: Path) -> Iterator[Any]:
    with _open(path) as file:
        yield {"text": file.read()}


def _list_rows(path: Path) -> Iterator[Any]:
    with _open(path) as file:
        rows = json.load(file)
    if not isinstance(rows, list):
        raise UserError(f"{path}: a .json file of rows must be one list, this is a {type(rows).__name__}.")
    yield from rows


def _line_rows(path: Path) -> Iterator[Any]:
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            try:
                if line.strip():
                    yield json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number}: not JSON ({error}).") from None


def gsm8k_response(answer: str) -> str:
    """A GSM8K answer as MetaMathQA writes it: no calculator notes, "The answer is: N" at the end."""
    text, replaced = re.subn(r"\n?#### *(\S[^\n]*)\s*$", rf"\n{MARKER}\1", re.sub(r"<<[^>]*>>", "", answer))
    if not replaced:
        raise UserError(f"response_format gsm8k: no line '#### N' at the end of {answer[-60:]!r}.")
    return text


RESPONSES = {"plain": lambda text: text, "gsm8k": gsm8k_response}


def select(rows: Iterable[Any], source: DataSource, place: str) -> list[dict[str, Any]]:
    """The first `rows` rows under the names of their roles (prompt, response, test, ...), by the dataset's `fields`.

    prompt and response are texts; every other value stays what it is. Raises UserError for a missing
    or empty (null) field, no rows at all, or fewer rows than asked for.
    """
    fields, wanted = source["fields"], source.get("rows")
    form = RESPONSES[source.get("response_format", "plain")]
    picked = []
    for number, row in enumerate(itertools.islice(rows, wanted)):
        if not isinstance(row, dict):
            raise UserError(f"{place}: row {number} is a {type(row).__name__}, not an object with named fields.")
        for role, name in fields.items():
            if role in OPTIONAL:
                continue
            if name not in row:
                raise UserError(f"{place}.fields.{role}: row {number} has no field '{name}'. It has: {', '.join(row)}.")
            if row[name] is None:
                raise UserError(f"{place}.fields.{role}: row {number} has null in field '{name}'.")
        renamed = {role: row.get(name) for role, name in fields.items()}
        if "prompt" in renamed:
            renamed["prompt"] = str(renamed["prompt"])
        if "response" in renamed:
            renamed["response"] = form(str(renamed["response"]))
        picked.append(renamed)
    if not picked:
        raise UserError(f"{place}: the dataset is empty.")
    if wanted and len(picked) < wanted:
        raise UserError(f"{place}.rows: {wanted} rows asked for, the dataset has {len(picked)}.")
    return picked
