"""The blocks of a model through torch.compile, each in its place (`compile: true`).

Blocks of one form are compiled once for all of them: seconds, where a whole model takes minutes. What is around them,
the loss and its head too, stays as it is. Not by `TrainingArguments.torch_compile`: it compiles the model as a whole,
and switches TF32 on where a card has it.
"""

import os
import shutil
import sysconfig
from pathlib import Path

import torch

from pissa_repro.model.blocks import listed
from pissa_repro.runtime.errors import UserError

FORMS = 8  # that torch compiles of one function; here of each block


def check_compiler() -> None:
    """Raise UserError where torch.compile has no C++ compiler here, or no headers of Python."""
    named = os.environ.get("CXX", "g++")
    if not shutil.which(named):
        missing = f"a C++ compiler, and there is no {named} here. Install one, name yours in CXX"
    elif not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing = f"the headers of Python, and {sysconfig.get_path('include')} has no Python.h. Install them"
    else:
        return
    raise UserError(f"--compile yes: torch.compile needs {missing}, or set `compile` of the model to false.")


def compile_blocks(model: torch.nn.Module) -> None:
    """Compile each block at its first call, for rows of all lengths; a model without a list of blocks as a whole.

    Where all blocks differ, as by ranks of their own, each is compiled by itself: torch would leave them as they are
    from the ninth on, with a warning. It changes results no more than rounding does, but with dropout, whose masks it
    draws by itself.
    """
    names = listed(model) or [""]
    for name in names:
        model.get_submodule(name).compile(dynamic=True, recompile_limit=FORMS * len(names))
