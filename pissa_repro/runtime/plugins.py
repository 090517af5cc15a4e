"""Plug-ins: one file each in a room, found by scanning, held to the room's one written contract.

A contract is a `typing.Protocol` class. A file must have its attributes without a value and its methods marked
`@abstractmethod`. It may have the others: where it has none, the contract's value or method applies (a method with the
file as its `self`). A file's functions take the parameters of the contract's methods, without `self`.

Every other function or upper-case name of a file is taken for a misspelling. A helper therefore begins with an
underscore, or stands in the file's `__all__` where another module uses it.

A contract that has a `VERSION` counts what a file gives: a spec holds it, so that what was made before is made again.
"""

import ast
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from pissa_repro.runtime.errors import UserError, unknown

Contract = TypeVar("Contract")
HELPERS = "A helper begins with an underscore, or stands in __all__."


class Room(Generic[Contract]):
    """The plug-ins of one package, such as the methods: its files, but for those that begin with an underscore.

    kind: what one plug-in is called in messages. rule: what the contract's names cannot say; it is given a file and
    returns what is wrong with it, or None. It sees the file as it is written.
    """

    def __init__(
        self,
        package: str,
        kind: str,
        contract: Callable[..., Contract],
        rule: Callable[[ModuleType], str | None] = lambda module: None,
    ):
        self.package, self.kind, self.contract, self.rule = package, kind, contract, rule
        self._loaded: dict[str, Contract] = {}
        self._behind: dict[str, frozenset[str]] = {}

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return Path(importlib.import_module(self.package).__path__[0])

    def names(self) -> tuple[str, ...]:
        """The plug-ins by name, sorted. Imports none of them."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.py") if not path.stem.startswith("_")))

    def load(self, name: str, place: str = "") -> Contract:
        """The file, whole: what it leaves out is the contract's.

        Raises UserError for a name without a file (`place`: where the name was given), and for a file that does not
        keep the contract, with the file, the name and the nearest known one.
        """
        if name not in self._loaded:
            if name not in self.names():
                raise unknown(self.kind, name, self.names(), place or self.package.replace(".", "/"))
            self._loaded[name] = self._whole(name)
        return self._loaded[name]

    def check(self) -> None:
        """Load all, so that a file that is not whole stops a run before its first job."""
        for name in self.names():
            self.load(name)

    def lines(self) -> dict[str, str]:
        """What each plug-in says of itself in its first line, for lists. Imports none of them."""
        files = {name: self.folder / Path(self.file(name)).name for name in self.names()}
        return {name: self._line(path.read_text(encoding="utf-8")) for name, path in files.items()}

    def file(self, name: str) -> str:
        """The path of a plug-in from the checkout's root, for messages."""
        return f"{self.package.replace('.', '/')}/{name}.py"

    def version(self, name: str) -> int:
        """The VERSION of a plug-in, raised with that of each one whose file it imports, itself or by way of others.

        So what takes parts from another file is made again with it.
        """
        if name not in self._behind:
            self._behind[name] = _behind(self.folder, self.package, name)
        behind: list[Any] = [self.load(one) for one in self._behind[name]]
        return 1 + sum(plugin.VERSION - 1 for plugin in behind)

    def _line(self, text: str) -> str:
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]

    def _whole(self, name: str) -> Any:
        place = self.file(name)
        module = imported(f"{self.package}.{name}", place)
        hold(module, own(module), self.contract, self.kind, place)
        if complaint := self.rule(module):
            raise UserError(f"{place}: {complaint}")
        return fill(module, self.contract)


def _behind(folder: Path, package: str, name: str) -> frozenset[str]:
    """A plug-in and those of its package that its file imports, inside functions too; so do theirs."""
    found, waiting = set(), [name]
    while waiting:
        if (one := waiting.pop()) not in found:
            found.add(one)
            modules = _imports((folder / f"{one}.py").read_text(encoding="utf-8"))
            parts = (module.removeprefix(f"{package}.").split(".")[0] for module in modules if package in module)
            waiting += [part for part in parts if part[0] != "_" and (folder / f"{part}.py").is_file()]
    return frozenset(found)


def _imports(text: str) -> Iterator[str]:
    """What a file imports: of `from a import b` a.b, which may be a module or a name in a."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def imported(name: str, place: str) -> ModuleType:
    """The module of a plug-in. Raises UserError where Python cannot import it, or it does not say what it is."""
    try:
        module = importlib.import_module(name)
    except (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{place}: cannot be imported: {type(error).__name__}: {error}.") from error
    if not (module.__doc__ or "").strip():
        raise UserError(f"{place}: no docstring; its first line says what the file is, also in lists.")
    return module


def members(contract: Any) -> list[str]:
    """All names of a contract: its attributes, then its methods."""
    return [*_hints(contract), *_methods(contract)]


def required(contract: Any) -> list[str]:
    """The names that every file must have."""
    attributes = [name for name in _hints(contract) if not hasattr(contract, name)]
    return attributes + [name for name, method in _methods(contract).items() if _abstract(method)]


def hold(given: Any, names: Iterable[str], contract: Any, kind: str, place: str) -> None:
    """Raise UserError where what a file gives does not keep a contract. names: those that the file itself makes."""
    known = members(contract)
    for name in names:
        if name not in known:
            raise UserError(f"{unknown('name', name, known, place)} {HELPERS}")
    for name in required(contract):
        if not hasattr(given, name):
            raise missing(name, vars(given), kind, place)
    for name, hint in _hints(contract).items():
        if hasattr(given, name) and not isinstance(value := getattr(given, name), _types(hint)):
            raise UserError(f"{place}: '{name}' is {value!r}; it must be {inspect.formatannotation(hint)}.")
    for name, method in _methods(contract).items():
        if hasattr(given, name):
            _check_parameters(getattr(given, name), method, f"{place}: '{name}'")


def fill(given: Any, contract: Any) -> Any:
    """Give what keeps a contract the rest of it, from the contract's own values and methods."""
    for name in members(contract):
        if not hasattr(given, name):
            value = getattr(contract, name)
            setattr(given, name, value.__get__(given) if inspect.isfunction(value) else value)
    return given


def missing(name: str, given: Any, kind: str, place: str) -> UserError:
    """Build the error for a name that a file lacks, with the nearest name that it has."""
    lower = {word.lower(): word for word in given if not word.startswith("_")}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f" Is '{lower[near[0]]}' meant to be it?" if near else ""
    return UserError(f"{place}: no '{name}', which every {kind} has.{hint}")


def own(module: ModuleType) -> list[str]:
    """The public functions and upper-case names that a module's own lines make, but for those in its `__all__`.

    A function may be one of another file, or what another function has made.
    """
    names: list[str] = []
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
            names += [name for name in found if name.isupper() or _is_function(getattr(module, name, None))]
    return [name for name in names if not name.startswith("_") and name not in getattr(module, "__all__", ())]


def _is_function(value: Any) -> bool:
    return inspect.isroutine(value) or isinstance(value, partial)


def _classes(contract: Any) -> Iterator[type]:
    """The contract's own class and the contracts that it extends, the most general first."""
    return (base for base in reversed(contract.__mro__) if base.__module__ not in ("typing", "builtins"))


def _hints(contract: Any) -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(contract).items() if not name.startswith("_")}


def _methods(contract: Any) -> dict[str, Any]:
    found = {name: value for base in _classes(contract) for name, value in vars(base).items()}
    return {name: value for name, value in found.items() if inspect.isfunction(value) and not name.startswith("_")}


def _abstract(method: Any) -> bool:
    return getattr(method, "__isabstractmethod__", False)


def _types(hint: Any) -> tuple[type, ...]:
    """The classes that a value of the annotation may have; any class where isinstance cannot tell."""
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return tuple(kind for part in get_args(hint) for kind in _types(part))
    origin = get_origin(hint) or hint
    return (origin,) if isinstance(origin, type) else (object,)


def _check_parameters(given: Any, method: Any, place: str) -> None:
    wanted = list(inspect.signature(method).parameters)[1:]
    found = list(inspect.signature(given).parameters) if callable(given) else None
    if found != wanted:
        has = "is no function" if found is None else f"takes ({', '.join(found)})"
        raise UserError(f"{place} {has}; the contract has ({', '.join(wanted)}).")
