"""The source files behind a module, read from its imports: what decides whether a cheap stage runs again.

Nothing is imported: files are parsed, each once per process. Snakemake reads this for every dry run.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.record import sha256

BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # where a statement holds other statements


def files(module: str, *more: str, root: Path = ROOT) -> list[str]:
    """The source files of its own package that a module reaches by imports, itself included.

    They are relative to the root, posix, sorted. The `__init__.py` of every package on the way belongs to them: it runs
    too. So does what a function imports. What stands under TYPE_CHECKING does not: it never runs.

    A plug-in is reached where a file imports it by its written name only, not where a room finds it by scanning
    (`import_module(f"{package}.{name}")`): else every table would depend on every method in the folder. Give the
    plug-ins that are used as `more`; they are followed in the same way.

    Raises ModuleNotFoundError for a given module without a source file.
    """
    reached: dict[str, Path] = {}
    waiting = [module, *more]
    while waiting:
        name = waiting.pop()
        path = _file(name, root)
        if path is not None and name not in reached:
            reached[name] = path
            waiting += _imports(name, path)
    for name in (module, *more):
        if name not in reached:
            raise ModuleNotFoundError(f"{root} holds no source file of the module '{name}'.", name=name)
    return sorted(path.relative_to(root).as_posix() for path in reached.values())


def digest(files: Iterable[str]) -> str:
    """The SHA-256 of files, given as from `files`, with their names: the same wherever the checkout lies."""
    lines = [f"{name} {_sha256(ROOT / name)}" for name in sorted(files)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


_sha256 = cache(sha256)


@cache
def _file(module: str, root: Path) -> Path | None:
    """The source file of a module or a package. None for a name that is neither: what a module defines."""
    path = root.joinpath(*module.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


@cache
def _imports(module: str, path: Path) -> list[str]:
    """The modules of its own package that a file imports, and all packages around them and itself.

    Of `from a import b` both a and a.b are in the list: b may be a module or a name in a.
    """
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = [module]
    for node in _statements(ast.parse(path.read_bytes(), str(path)).body):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            names += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
    top = module.partition(".")[0]
    return sorted({part for name in names if name.partition(".")[0] == top for part in _with_packages(name)})


def _with_packages(module: str) -> Iterator[str]:
    """a.b.c, a.b, a."""
    while module:
        yield module
        module = module.rpartition(".")[0]


def _statements(block: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The statements of a block, and of the blocks in them, that may run. Expressions hold no import: none is read."""
    for node in block:
        yield node
        for name in BLOCKS[1:] if _typing_only(node) else BLOCKS:
            yield from _statements(getattr(node, name, ()))


def _typing_only(node: ast.AST) -> bool:
    """Whether it is `if TYPE_CHECKING:` or `if typing.TYPE_CHECKING:`; its `else` runs."""
    test = getattr(node, "test", None) if isinstance(node, ast.If) else None
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))
