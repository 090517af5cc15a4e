"""The blocks of code of a page."""

import re
import shlex
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block, in their order."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(shell: str) -> list[list[str]]:
    """The words of each command of a shell block, without comments; a line that ends with \\ goes on in the next."""
    lines = shell.replace("\\\n", " ").replace(" && ", "\n").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]
