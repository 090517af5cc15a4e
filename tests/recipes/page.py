"""docs/guides/recipes.md as a program: its recipes, and how their blocks are run."""

import re
from types import SimpleNamespace

from blocks import BLOCK, commands
from commands import pissa

from pissa_repro.plan.config import ROOT

TEXT = (ROOT / "docs/guides/recipes.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## [^\n]* \{#(\w+)\}\n(.*?)(?=^## |\Z)", flags=re.MULTILINE | re.DOTALL)
RECIPES: dict[str, str] = dict(SECTION.findall(TEXT))  # by their anchors


def run(text: str, names: dict) -> SimpleNamespace:
    """Run the blocks of a recipe in order, those in Python in one namespace with these names; what it holds then."""
    for language, code in BLOCK.findall(text):
        if language == "python":
            exec(compile(code, "recipes.md", "exec"), names)
        else:
            for program, *words in commands(code):
                assert program == "pissa", words
                pissa(*words)
    return SimpleNamespace(**names)
