"""Methods that are thrown away: files in a copy of the methods' folder, found by scanning as those of the package."""

import contextlib
import importlib
import itertools
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pissa_repro import methods

HEAD = '''"""{line}"""

from pissa_repro.methods import Start

DISPLAY = QUANTIZED_DISPLAY = "{name}"
RANDOM = False
'''
SVD = """
    import torch
    U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
    k, s = min(setting.rank, len(S)), setting.scaling
    zeros = weight.new_zeros
"""
STARTS = {  # the lines of `start` after SVD, and what else the file says
    "square": ("return Start(Vh[:k], U[:, :k] * S[:k], core=zeros(k, k), trained=('core',))", ""),
    "diagonal": ("return Start(Vh[:k], U[:, :k].contiguous(), core=S[:k] / s, offset='start')", ""),
    "banded": (
        "k = len(S)\n    free = torch.ones(k, k).tril(1).triu(-1).bool()\n"
        "    return Start(Vh, U, core=zeros(k, k).fill_(1 / k), offset='start', trained=('core',), free=free)",
        "",
    ),
    "some": (
        "core = S[:k] / s\n"
        "    return Start(Vh[:k], U[:, :k].contiguous(), core=core, offset='start', free=core < core[0])",
        "",
    ),
    "held": ("return Start(Vh[:k], zeros(len(U), k), trained=('B',))", ""),
    "ranked": (
        "k = k // 2 if len(U) > Vh.shape[1] else 2 * k\n"
        "    return Start(S[:k, None] * Vh[:k] / s, U[:, :k].contiguous(), offset='start')",
        "",
    ),
    "aside": (
        "a, b = Vh[-2:], U[:, -2:] * S[-2:] / s\n"
        "    return Start(torch.cat((a, Vh[: k - 2])), torch.cat((b, zeros(len(U), k - 2)), 1), offset=(a, b))",
        "",
    ),
    "moving": ("return Start(Vh[:k], U[:, :k] * S[:k])", "MOVES = 'W gets its first triples once more.'\n"),
}


COUNT = itertools.count()
OLORA = '''"""A method that is thrown away."""

from pissa_repro.methods import Training, olora

DISPLAY = QUANTIZED_DISPLAY = "Thrown"
RANDOM, TAKES = olora.RANDOM, olora.TAKES

start = olora.start
'''


def text(name: str, body: str | None = None, more: str = "") -> str:
    """A method's file; body: of its start, instead of the known one's; more: what else the file says."""
    known, declared = STARTS.get(name, ("", ""))
    start = f'\n\ndef start(weight, setting):\n    """Thrown away."""{SVD}    {body or known}\n'
    return HEAD.format(line=f"The method {name}, which is thrown away.", name=name) + declared + more + start


def _put(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Where the methods are, with these files; all of them in a copy, made once, of the folder of methods."""
    copy = folder / "methods"
    if not copy.exists():
        shutil.copytree(methods.PLUGINS.folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, file in files.items():
        (copy / f"{name}.py").write_text(file, encoding="utf-8")
    importlib.invalidate_caches()
    return [str(copy)]


@contextlib.contextmanager
def plugged(folder: Path, files: Mapping[str, str]) -> Iterator[None]:
    """The package's methods and these: {name: the text of a file}."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "__path__", _put(folder, files))
        yield
    for name in files:
        methods.PLUGINS._loaded.pop(name, None)
        methods.PLUGINS._behind.pop(name, None)
        sys.modules.pop(f"pissa_repro.methods.{name}", None)
        vars(methods).pop(name, None)


def thrown(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str, head: str = OLORA) -> str:
    """Add a method for one test and give its name, another one each time. text: what comes after OLoRA's start."""
    name = f"thrown_{next(COUNT)}"
    monkeypatch.setattr(methods, "__path__", _put(folder, {name: head + text}))
    return name
