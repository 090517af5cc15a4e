"""A throw-away method that sees data: A holds the principal directions of what goes into a module, B is zero."""

import types
from pathlib import Path

import pytest

from pissa_repro import methods
from pissa_repro.methods import Method
from pissa_repro.runtime.plugins import fill

TEXT = '''"""Seen: A is the principal directions of the inputs. A method that is thrown away."""

from pissa_repro.methods import Start

DISPLAY = QUANTIZED_DISPLAY = "seen"
RANDOM = False
STATISTICS = {"covariance": {"rows": 6}}


def start(weight, setting):
    """A: the r largest eigenvectors of E[x x^T]."""
    import torch

    _, vectors = torch.linalg.eigh(setting.statistics["covariance"])
    return Start(vectors[:, -setting.rank :].mT.contiguous(), weight.new_zeros(len(weight), setting.rank))
'''
RANKS = '''

def summary(weight, setting):
    """The eigenvalues of E[x x^T]."""
    import torch

    return torch.linalg.eigvalsh(setting.statistics["covariance"])


def ranks(rank, summaries, options):
    """One more for each second module, one less for the others."""
    return {name: rank + 1 - 2 * (number % 2) for number, name in enumerate(summaries)}
'''


def add(monkeypatch: pytest.MonkeyPatch, name: str, text: str = TEXT) -> None:
    """Let a method of this name be there for one test."""
    module = types.ModuleType(name, text.split('"""')[1])
    exec(compile(text, f"{name}.py", "exec"), vars(module))
    monkeypatch.setitem(methods.PLUGINS._loaded, name, fill(module, Method))


def put(checkout: Path, name: str, text: str = TEXT) -> None:
    """Put the method's file into a copy of the checkout."""
    (checkout / "pissa_repro/methods" / f"{name}.py").write_text(text, encoding="utf-8")
