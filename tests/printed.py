"""The blocks of docs/faults.md as programs. Run by itself, it reads blocks of Python and says what each has printed."""

import contextlib
import io
import json
import multiprocessing
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?", flags=re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(##+) (.*)$", flags=re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", flags=re.MULTILINE | re.DOTALL)


class Entry(NamedTuple):
    """A fault: the library with its version, what the heading says, and the text below it."""

    library: str
    title: str
    text: str


def entries(page: str) -> list[Entry]:
    """The entries of the page; a comment in a block is no heading."""
    code = [found.span() for found in FENCED.finditer(page)]
    found = [one for one in HEADING.finditer(page) if not any(a < one.start() < b for a, b in code)]
    ends = [one.start() for one in found[1:]] + [len(page)]
    library, made = "", []
    for heading, end in zip(found, ends, strict=True):
        library = heading[2] if heading[1] == "##" else library
        if heading[1] == "###":
            made.append(Entry(library, heading[2], page[heading.end() : end]))
    return made


def first_block(page: str) -> str:
    """The lines that all others need."""
    return next(code for language, code, _ in BLOCK.findall(page) if language == "python")


def by_python(blocks: list[str], folder: Path) -> list[str]:
    """What each block but the first has printed; each runs behind the first, in a process of its own."""
    environment = os.environ | {"TMPDIR": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__], input=json.dumps(blocks), cwd=folder, env=environment,
        capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    printed: list[str] = json.loads(done.stdout)
    return printed


def by_shell(block: str, folder: Path) -> str:
    """What a block of commands has printed."""
    done = subprocess.run(["bash", "-e", "-c", block], cwd=folder, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


names: dict[str, object] = {}  # what the first block has left, in this process and its forks


def printed(block: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            exec(block, names)
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
    return said.getvalue()


def main() -> None:
    first, *blocks = json.load(sys.stdin)
    warnings.simplefilter("ignore")
    exec(first, names)
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as forks:  # one for each block
        texts = forks.map(printed, blocks, chunksize=1)
    json.dump(texts, sys.stdout)


if __name__ == "__main__":
    main()
