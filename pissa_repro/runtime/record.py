"""Records: small JSON files that say how a number came about, written whole or not at all."""

import contextlib
import csv
import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pissa_repro.runtime.errors import NoRoom, UserError, writing

# Keys of the configs beside weights that name where these came from: no part of what they are.
LABELS = {"base_model_name_or_path", "revision", "peft_version", "transformers_version", "name", "commit", "versions"}


def canonical(spec: Any) -> str:
    """One text for one spec, in ASCII: sorted keys, plain types, no spaces. Raises TypeError otherwise."""
    return json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256(path: str | Path) -> str:
    """The hash of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content(folder: str | Path) -> dict[str, str]:
    """What a folder of weights is: {file: SHA-256} of its safetensors and of its configs, which say how they are used.

    Those in folders inside count too, as "factors/base.json".
    Of a config the values count, not the layout, and not LABELS: the same weights from another place are the same.
    Raises UserError for a config that is no JSON.
    """
    hashes = {".safetensors": sha256, ".json": _values}
    files = [path for path in Path(folder).rglob("*") if path.suffix in hashes]
    return {path.relative_to(folder).as_posix(): hashes[path.suffix](path) for path in sorted(files)}


def _values(path: Path) -> str:
    values = read_json(path)
    if isinstance(values, dict):
        values = {key: value for key, value in values.items() if key not in LABELS}
    try:
        return hashlib.sha256(canonical(values).encode()).hexdigest()
    except ValueError:
        raise UserError(f"{path}: holds NaN or an infinite number.") from None


@contextlib.contextmanager
def atomic(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under its name only once it is complete and on disk.

    A crash, a full disk or a signal leaves the old file, or none; never half a file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = None if "b" in mode else "utf-8"
    handle = tempfile.NamedTemporaryFile(  # noqa: SIM115 (closed below, then renamed)
        mode, encoding=encoding, dir=path.parent, prefix=f".{path.name}.", delete=False
    )
    try:
        with writing(path), handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(handle.name, 0o666 & ~_umask())
        os.replace(handle.name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(handle.name)
        raise


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A folder to write into that takes its name, and the place of an older one, once it is whole and on disk.

    A failure removes it; after a kill the next one that writes there does.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        with writing(path):
            yield unfinished
            for file in (file for file in unfinished.rglob("*") if file.is_file()):
                _to_disk(file)
            shutil.rmtree(path, ignore_errors=True)
            unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def unfinished_folder(path: Path) -> Path:
    """Where `resumed_folder` keeps what is there of a folder that is not whole."""
    return path.with_name(f".{path.name}.unfinished")


@contextlib.contextmanager
def resumed_folder(path: str | Path, spec: Any) -> Iterator[tuple[Path, Path]]:
    """A folder that takes its name once it is whole, and one for notes on the way; both stay after a failure.

    The next one with the same spec (plain types) goes on with what they hold; another spec begins anew. Every file in
    them must be written whole or not at all. Only one process may do so at a time (runtime/lock.py).
    """
    path = Path(path)
    work = unfinished_folder(path)
    whole, notes, mark = work / path.name, work / "notes", work / "spec.json"
    with writing(path):
        if not mark.is_file() or mark.read_text(encoding="utf-8") != canonical(spec):
            shutil.rmtree(work, ignore_errors=True)
            with atomic(mark) as file:
                file.write(canonical(spec))
        for folder in (whole, notes):
            folder.mkdir(exist_ok=True)
        yield whole, notes
        for written in (written for written in whole.rglob("*") if written.is_file()):
            _to_disk(written)
        whole.rename(path)
    shutil.rmtree(work, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """Wait until a file is on disk; over a network a full disk is told only now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unfinished(record: str | Path) -> list[str]:
    """The marks of attempts at a record that did not end well."""
    record = Path(record)
    return sorted(str(path) for path in record.parent.glob(f"{glob.escape(record.name)}.unfinished-*"))


@contextlib.contextmanager
def attempt(record: str | Path) -> Iterator[None]:
    """A mark beside a record, of another name each time, that is there until an attempt at it ends well."""
    mark = Path(f"{record}.unfinished-{time.time_ns()}")
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    yield
    for path in unfinished(record):
        os.unlink(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def refuse_existing(out: Path, kind: str = "folder") -> None:
    """Raise UserError for a folder, or a file, that is to be made and is there."""
    if out.exists():
        raise UserError(f"--out {out}: exists already. Choose another {kind}, or delete it.")


def refuse_no_space(out: Path, needed: int) -> None:
    """Raise NoRoom where the disk of a folder that is to be made has fewer bytes than it needs."""
    there = next(parent for parent in out.resolve().parents if parent.is_dir())
    if (free := shutil.disk_usage(there).free) < needed:
        raise NoRoom(f"--out {out}: needs {needed:,} bytes, {free:,} are free there.")


def write_json(path: str | Path, value: Any) -> None:
    """Write a record; NaN and infinities are refused, because no table may read them as numbers."""
    with atomic(path) as file:
        json.dump(value, file, indent=1, sort_keys=True, allow_nan=False)
        file.write("\n")


def read_json(path: str | Path) -> Any:
    """Read a record. Raises UserError that names the file when it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such record. Run snakemake to make it.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a complete record ({error}). Delete it and run again.") from None


def write_csv(path: str | Path, columns: Collection[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows under these columns, whole or not at all; an empty field for what a row does not have."""
    with atomic(path) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_lines(path: str | Path) -> list[Any]:
    """Read a JSON-lines file, a list with one value per line."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def write_lines(path: str | Path, rows: Iterable[Any]) -> None:
    """Write a JSON-lines file, whole or not at all."""
    with atomic(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
