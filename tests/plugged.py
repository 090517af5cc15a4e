"""Methods that are thrown away: files of a folder of the test's own, found as those of the package are."""

import contextlib
import sys

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


def text(name: str, body: str | None = None) -> str:
    """A method's file; body: of its start, instead of the known one's."""
    known, more = STARTS.get(name, ("", ""))
    start = f'\n\ndef start(weight, setting):\n    """Thrown away."""{SVD}    {body or known}\n'
    return HEAD.format(line=f"The method {name}, which is thrown away.", name=name) + more + start


@contextlib.contextmanager
def plugged(folder, files):
    """The package's methods and these: {name: the text of a file}."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        (folder / f"{name}.py").write_text(file, encoding="utf-8")
    room, kept = type(methods.PLUGINS), (methods.__path__[:], methods.names, type(methods.PLUGINS).names)
    every = tuple(sorted({*methods.names(), *files}))
    methods.__path__.append(str(folder))
    room.names = lambda self: every if self is methods.PLUGINS else kept[2](self)
    methods.names = methods.PLUGINS.names
    try:
        yield
    finally:
        methods.__path__[:], methods.names, room.names = kept
        for name in files:
            methods.PLUGINS._loaded.pop(name, None)
            sys.modules.pop(f"pissa_repro.methods.{name}", None)
            vars(methods).pop(name, None)
