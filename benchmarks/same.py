"""Compare two results folders of the workflow bit by bit.

python benchmarks/same.py BEFORE/results AFTER/results
python benchmarks/same.py A B --renamed studies/mini-llama/table8=paper/table8 --ignore-columns model
python benchmarks/same.py A B --interrupted
python benchmarks/same.py A B --only 'cells/*' --skip '*.samples.jsonl'

For a change that must not change any result: run a small sweep before it and after it. Compared are
weights and factors tensor by tensor, and every value of the records, the generations, the samples, the
CSV files and the Markdown tables. Left out is where a number comes from: times, memory, versions,
commits, hardware, folders of the machine. What a run was asked for (`spec`) is compared whole. Figures
are not read.

Exits with 0 where all is equal, with 1 where anything differs or is on one side only, with 2 for
arguments that make no sense.
"""

import argparse
import csv
import filecmp
import io
import json
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Keys of records, outside of `spec`. csv_sha256 is the hash of a file that is compared itself, and may hold times.
PROVENANCE = set("provenance versions git hardware finished memory_bytes gpu_memory_bytes csv_sha256".split())
PROVENANCE |= {"peft_version", "transformers_version"}
BEGUN = {"resumed_from", "runs", "run", "done"}  # left out with --interrupted: where work went on, and how often
SECONDS = re.compile(r"(.*_)?seconds")
FOLDERS = {"path", "folder", "base_model_name_or_path"}  # no difference where both are absolute paths
COLUMNS = ("*seconds*", "time, *", "*memory*", "commit", "dirty")  # of CSV files and Markdown tables
SKIPPED = ("*.svg", "*.png", ".*", "*/.*", "*/README.md")
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "I8": "i1", "BOOL": "?"}


class Pair(NamedTuple):
    """A value that differs: where it is, as in rows[3].loss, and what it is on both sides."""

    place: str
    before: Any
    after: Any


def walk(before: Any, after: Any, place: str = "", whole: bool = False) -> Iterator[Pair]:
    """The values that differ in two JSON values. whole: compare provenance too (inside a spec)."""
    key = place.rpartition(".")[2]
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            inside, there = whole or name == "spec", f"{place}.{name}" if place else name
            if not inside and (name in PROVENANCE or SECONDS.fullmatch(name)):
                continue
            if name in before and name in after:
                yield from walk(before[name], after[name], there, inside)
            else:
                yield Pair(there, before.get(name, "nothing"), after.get(name, "nothing"))
    elif isinstance(before, list) and isinstance(after, list):
        if key == "target_modules" and not whole:  # PEFT writes a set
            before, after = sorted(before), sorted(after)
        if len(before) != len(after):
            yield Pair(f"{place} (length)".strip(), len(before), len(after))
        for number, pair in enumerate(zip(before, after, strict=False)):
            yield from walk(*pair, f"{place}[{number}]", whole)
    elif repr(before) != repr(after):  # 1 is not 1.0, 0.0 is not -0.0
        absolute = all(isinstance(one, str) and one.startswith("/") for one in (before, after))
        if not (key in FOLDERS and absolute and not whole):
            yield Pair(place, before, after)


def json_file(path: Path, ignored: list[str]) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def lines_file(path: Path, ignored: list[str]) -> Any:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return [line for line in lines if not (isinstance(line, dict) and {*line} and {*line} <= PROVENANCE)]


def csv_file(path: Path, ignored: list[str]) -> Any:
    """The columns in their order, and the rows as text, so that every digit counts."""
    header, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
    kept = [name for name in header if not matches(name, ignored)]
    whole = [dict(zip(header, row, strict=True)) for row in rows]
    return {"columns": kept, "rows": [{name: row[name] for name in kept} for row in whole]}


def markdown_file(path: Path, ignored: list[str]) -> Any:
    """Lines of text as they are, rows of tables as lists of cells."""
    found: list[str | list[str]] = []
    header: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        header = (header or cells) if cells else []
        dropped = {number for number, name in enumerate(header) if matches(name, ignored)}
        found.append([cell for number, cell in enumerate(cells) if number not in dropped] if cells else line)
    return found


READERS = {".json": json_file, ".jsonl": lines_file, ".csv": csv_file, ".md": markdown_file}


def matches(name: str, patterns: list[str] | tuple[str, ...]) -> bool:
    """Whether a name is one of the patterns'."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def tensors(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a safetensors file says of its tensors, and the bytes of each, read only when they are used."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    content = np.memmap(path, mode="r")[8 + size :]
    places = {name: facts.pop("data_offsets") for name, facts in header.items() if name != "__metadata__"}
    return header, {name: content[start:end] for name, (start, end) in places.items()}


def numbers(raw: np.ndarray, dtype: str) -> np.ndarray:
    """The bytes of a tensor as numbers; of a dtype that NumPy does not have, as bytes."""
    if dtype == "BF16":
        return (np.array(raw).view("<u2").astype("<u4") << 16).view("<f4")
    return np.array(raw).view(NUMPY.get(dtype, "u1"))


def weights(before: Path, after: Path) -> Iterator[Pair]:
    """The tensors that differ in two safetensors files, in name, dtype, shape or any bit."""
    (facts, ours), (other, theirs) = tensors(before), tensors(after)
    yield from walk(facts, other, whole=True)
    for name in sorted(ours.keys() & theirs.keys()):
        if facts[name] == other[name] and not np.array_equal(ours[name], theirs[name]):
            yield Pair(name, *(numbers(raw[name], facts[name]["dtype"]) for raw in (ours, theirs)))


def differing(before: Path, after: Path, ignored: list[str]) -> list[Pair]:
    """The values that differ in two files of the same name."""
    if filecmp.cmp(before, after, shallow=False):
        return []
    if before.suffix == ".safetensors":
        return list(weights(before, after))
    if before.suffix not in READERS:
        return [Pair("content", f"{before.stat().st_size} bytes", f"{after.stat().st_size} others")]
    read = READERS[before.suffix]
    return list(walk(read(before, ignored), read(after, ignored)))


def size(pair: Pair) -> float | None:
    """The greatest difference of two numbers, of text that is a number, or of two tensors; else None."""
    if isinstance(pair.before, np.ndarray):
        with np.errstate(invalid="ignore", over="ignore"):
            return float(np.abs(pair.before.astype(float) - pair.after.astype(float)).max())
    try:
        return abs(float(pair.before) - float(pair.after))
    except (TypeError, ValueError):
        return None


def count(pair: Pair) -> int:
    """How many values differ: of tensors, the elements whose bits do."""
    if not isinstance(pair.before, np.ndarray):
        return 1
    bits = [np.ascontiguousarray(side).view(f"V{side.itemsize}") for side in (pair.before, pair.after)]
    return int((bits[0] != bits[1]).sum())


def told(pairs: list[Pair]) -> Iterator[str]:
    """A line for the values of one kind, such as rows[3].loss and rows[4].loss: how many, by how much, the first."""
    kinds: dict[str, list[Pair]] = {}
    for pair in pairs:
        kinds.setdefault(re.sub(r"\[\d+\]", "[]", pair.place), []).append(pair)
    for kind, some in kinds.items():
        sizes = [found for pair in some if (found := size(pair)) is not None]
        by = f" by up to {np.max(sizes):.3g}" if sizes else ""
        first = "" if isinstance(some[0].before, np.ndarray) else f"; {_first(some[0])}"
        yield f"{kind or 'content'}: {sum(map(count, some))} differ{by}{first}"


def _first(pair: Pair) -> str:
    before, after = (json.dumps(value, ensure_ascii=False) for value in pair[1:])
    start = next((n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
    start = max(0, start - 20)  # of long texts, where they part
    return f"{pair.place} is {before[start : start + 60]}, then {after[start : start + 60]}"


def files(folder: Path, renamed: dict[str, str]) -> dict[str, Path]:
    """The files below a folder by their names, those with an old name under the new one."""
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        old = next((old for old in renamed if name.startswith(old)), "")
        name = renamed.get(old, "") + name.removeprefix(old)
        if name in found:
            raise ValueError(f"--renamed: {found[name]} and {path} would both be {name}")
        found[name] = path
    return found


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, metavar="A", help="a results folder")
    parser.add_argument("after", type=Path, metavar="B", help="the results folder to compare with it")
    several: dict[str, Any] = {"nargs": "+", "default": []}
    parser.add_argument("--only", **several, metavar="GLOB", help="only files of these names (as in B; * takes / too)")
    parser.add_argument("--skip", **several, metavar="GLOB", help="no files of these names")
    parser.add_argument("--renamed", **several, metavar="OLD=NEW", help="names in A that begin so have another in B")
    parser.add_argument("--ignore-columns", **several, metavar="GLOB", help="of CSV files and Markdown tables")
    parser.add_argument("--interrupted", action="store_true", help="leave out where work went on, and how often")
    parser.add_argument("--limit", type=int, default=50, help="lines to print at most (default 50)")
    args = parser.parse_args(argv)
    PROVENANCE.update(BEGUN if args.interrupted else ())
    for folder in (args.before, args.after):
        if not folder.is_dir():
            parser.error(f"no such folder: {folder}")
    if wrong := [one for one in args.renamed if one.count("=") != 1 or one.startswith("=")]:
        parser.error(f"--renamed: {wrong[0]!r} is not OLD=NEW")
    args.renamed = dict(one.split("=") for one in args.renamed)
    try:
        args.files = files(args.before, args.renamed), files(args.after, {})
    except ValueError as error:
        parser.error(str(error))
    chosen = [name for name in args.files[0].keys() | args.files[1].keys() if matches(name, args.only or ["*"])]
    args.names = sorted(name for name in chosen if not matches(name, (*args.skip, *SKIPPED)))
    if not args.names:
        parser.error("no file to compare")
    return args


def compare(args: argparse.Namespace) -> dict[str, list[str]]:
    """What differs, line by line, by the name of the file; nothing for a file that is the same."""
    before, after = args.files
    found: dict[str, list[str]] = {}
    for name in args.names:
        if name not in before or name not in after:
            found[name] = [f"only in {'B' if name in after else 'A'}"]
            continue
        try:
            found[name] = list(told(differing(before[name], after[name], [*COLUMNS, *args.ignore_columns])))
        except ValueError as error:
            found[name] = [f"cannot be read ({error})"]
    return found


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    found = compare(args)
    lines = [f"{name}: {line}" for name, some in found.items() for line in some]
    print(*lines[: args.limit], sep="\n", end="\n" if lines else "")
    if len(lines) > args.limit:
        print(f"... and {len(lines) - args.limit} lines more (--limit)")
    apart = sum(bool(some) for some in found.values())
    print(f"{len(found)} files: {len(found) - apart} equal but for provenance, {apart} not")
    sys.exit(apart > 0)


if __name__ == "__main__":
    main()
