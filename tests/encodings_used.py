"""Finds where Python code opens text in the encoding of the locale."""

import ast

WITH_MODE = {"open": 1, "fdopen": 1, "NamedTemporaryFile": 0, "TemporaryFile": 0}  # the place of the mode
ENCODING = {"open": 3, "fdopen": 3, "read_text": 0, "write_text": 1, "TextIOWrapper": 1}  # of the encoding
BINARY = ("gzip", "bz2", "lzma")  # whose open() is binary unless the mode has a t
OTHERS = ("os", "tarfile", "zipfile")  # whose open() gives no text


def bare(source: str) -> list[ast.Call]:
    """The calls that open a text file, or decode a program's output, without saying the encoding."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and _bare(node)]


def _bare(call: ast.Call) -> bool:
    name, owner = _name(call.func)
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in given or None in given:
        return False
    if any(getattr(given.get(key), "value", None) is True for key in ("text", "universal_newlines")):
        return True  # of subprocess
    if name not in {*WITH_MODE, *ENCODING} or (name == "open" and owner in OTHERS):
        return False
    method = name == "open" and owner is not None and owner not in (*BINARY, "io")  # Path.open(mode, ...)
    if len(call.args) > ENCODING.get(name, 9) - method:
        return False
    return name not in WITH_MODE or _text(call, given, name, owner, WITH_MODE[name] - method)


def _text(call: ast.Call, given: dict, name: str, owner: str | None, place: int) -> bool:
    """Whether the mode is one of text."""
    mode = call.args[place] if len(call.args) > place else given.get("mode")
    if mode is None:
        return "Temporary" not in name and owner not in BINARY
    letters = mode.value if isinstance(mode, ast.Constant) else ""
    return "t" in letters if owner in BINARY else "b" not in letters


def _name(function: ast.expr) -> tuple[str, str | None]:
    """What is called, and the name that it is an attribute of ("" where that is no name, None where there is none)."""
    if isinstance(function, ast.Attribute):
        return function.attr, function.value.id if isinstance(function.value, ast.Name) else ""
    return (function.id if isinstance(function, ast.Name) else ""), None
