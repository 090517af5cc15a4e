"""A throw-away method that sees data: A holds the principal directions of what goes into a module, B is zero."""

from pathlib import Path

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


FILES = {"seen": TEXT, "spread": TEXT + RANKS, "steep": TEXT.replace("covariance", "gradient")}


def put(checkout: Path, name: str) -> None:
    """Put one of FILES into a copy of the checkout."""
    (checkout / "pissa_repro/methods" / f"{name}.py").write_text(FILES[name], encoding="utf-8")
