"""Methods that are thrown away after a test: files in a copy of the methods' folder, found by scanning."""

import itertools
import shutil
from pathlib import Path

from pissa_repro import methods

COUNT = itertools.count()
HEAD = '''"""A method that is thrown away."""

from pissa_repro.methods import Training, olora

DISPLAY = QUANTIZED_DISPLAY = "Thrown"
RANDOM, TAKES = olora.RANDOM, olora.TAKES

start = olora.start
'''


def thrown(monkeypatch, folder: Path, text: str, head: str = HEAD) -> str:
    """Write a method's file and give its name, another one each time. text: what comes after OLoRA's start."""
    copy = folder / "methods"
    if not copy.exists():
        shutil.copytree(methods.PLUGINS.folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
    name = f"thrown_{next(COUNT)}"
    (copy / f"{name}.py").write_text(head + text, encoding="utf-8")
    monkeypatch.setattr(methods, "__path__", [str(copy)])
    return name
