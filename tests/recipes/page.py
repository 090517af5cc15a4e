"""docs/guides/recipes.md as a program: its recipes, and how their blocks are run."""

import re
import shlex
from types import SimpleNamespace

from commands import pissa

from pissa_repro.plan.config import ROOT

TEXT = (ROOT / "docs/guides/recipes.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## [^\n]* \{#(\w+)\}\n(.*?)(?=^## |\Z)", flags=re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
RECIPES: dict[str, str] = dict(SECTION.findall(TEXT))  # by their anchors


def run(text: str, names: dict) -> SimpleNamespace:
    """Run the blocks of a recipe in order, those in Python in one namespace with these names; what it holds then."""
    for language, code in BLOCK.findall(text):
        if language == "python":
            exec(compile(code, "recipes.md", "exec"), names)
        else:
            commands(code)
    return SimpleNamespace(**names)


def commands(code: str) -> None:
    """Run the lines of a shell block, each of which is a comment or a command `pissa`."""
    for line in code.splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] == "pissa", line
            pissa(*words[1:])
