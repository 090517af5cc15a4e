"""Plug-ins: what the rooms refuse, and a throw-away method, quantizer and task that need no other edit."""

import itertools
import os
import shutil
import subprocess
import sys
from abc import abstractmethod
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml
from stage import says

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime import plugins

COUNT = itertools.count()


class Toy(Protocol):
    """A contract."""

    TITLE: str
    SIZE: int | float = 2
    VERSION: int = 1
    NAMES: tuple[str, ...] = ()

    @abstractmethod
    def draw(self, row: Any, colour: str) -> str:
        """Every file draws."""

    def note(self, row: Any) -> str:
        """What is said below."""
        return f"{self.TITLE}: {row}"


WHOLE = '''"""One toy.\n\nMore of it."""\nTITLE = "a toy"\ndef draw(row, colour):\n    return colour\n'''


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A function that makes a room of these files {name: text}; its package has a name of its own."""
    monkeypatch.syspath_prepend(tmp_path)

    def build(files, **more):
        package = f"toys_{next(COUNT)}"
        for name, text in {"__init__": "", "_shared": "X = 1\n", **files}.items():
            (tmp_path / package).mkdir(exist_ok=True)
            (tmp_path / package / f"{name}.py").write_text(text, encoding="utf-8")
        return plugins.Room(package, "toy", Toy, **more)

    return build


def test_files_are_found_by_scanning_and_not_imported(room):
    found = room({"b": "raise SystemExit", "a": WHOLE})
    assert found.names() == ("a", "b")
    assert room({"a": WHOLE}).lines() == {"a": "One toy."}


def test_a_file_gets_what_it_leaves_out_and_is_loaded_once(room):
    found = room({"a": WHOLE, "b": WHOLE + "SIZE = 3.5\ndef note(row):\n    return 'mine'\n"})
    found.check()
    a, b = found.load("a"), found.load("b")
    assert (a.SIZE, a.NAMES, a.note(5)) == (2, (), "a toy: 5")
    assert (b.SIZE, b.note(5)) == (3.5, "mine")
    assert found.load("a") is a


def test_helpers_are_private_or_in_all(room):
    helpers = (
        "from math import pi, sqrt\nimport os\n_SCALE = 2\nsmall = 1\ndef _help():\n    pass\ndef shown():\n    pass\n"
    )
    room({"a": WHOLE + helpers + "__all__ = ['shown']\n"}).check()
    room(
        {"a": WHOLE + "from functools import partial\nKind = dict[str, int]\n_draw = partial(draw, colour='red')\n"}
    ).check()
    for line in ("drawn = draw\n", "from functools import partial\nred, drawn = 1, partial(draw, colour='red')\n"):
        says(room({"a": WHOLE + line}).check, "/a.py", "unknown name 'drawn'", "Did you mean 'draw'?")
    says(room({"a": WHOLE + helpers}).check, "/a.py", "unknown name 'shown'", "underscore", "__all__")


def test_a_version_is_raised_with_those_of_the_files_that_are_imported(room):
    """Itself or by way of others, in a circle, inside a function, as a module or by the names in it."""
    ways = ("from {} import b\n", "import {}.b\n", "from {}.b import draw\n", "def note(row):\n    from {} import b\n")
    for way in ways:
        made = room(dict.fromkeys(("a", "b", "c", "math"), WHOLE))
        more = {
            "a": way + "from math import pi\n",
            "b": "VERSION = 3\nfrom {0} import c\nimport {0}._shared\n",
            "c": "VERSION = 2\nimport {}.a\n",
        }
        for file, text in more.items():
            (made.folder / f"{file}.py").write_text(WHOLE + text.format(made.package), encoding="utf-8")
        assert [made.version(name) for name in ("a", "b", "c", "math")] == [4, 4, 4, 1]


def test_an_unknown_name_is_told_with_the_nearest(room):
    says(lambda: room({"circle": WHOLE}).load("cirle", "config.x"), "config.x: unknown toy 'cirle'", "'circle'")


BROKEN = {
    "misspelt function": (WHOLE + "def noet(row):\n    pass\n", ["unknown name 'noet'", "Did you mean 'note'?"]),
    "misspelt constant": (WHOLE + "SIZES: int = 3\n", ["unknown name 'SIZES'", "Did you mean 'SIZE'?"]),
    "a misspelt one of two": (WHOLE + "SIZE, NAME = 3, ()\n", ["unknown name 'NAME'", "Did you mean 'NAMES'?"]),
    "required under another name": (WHOLE.replace("draw(", "drawn("), ["unknown name 'drawn'", "Did you mean 'draw'?"]),
    "required in small letters": (WHOLE.replace("TITLE", "title"), ["no 'TITLE', which every toy has", "'title'"]),
    "nothing": ('"""A toy."""\n', ["no 'TITLE', which every toy has"]),
    "no function": ('"""A toy."""\nTITLE = "a"\n', ["no 'draw', which every toy has"]),
    "another type": (WHOLE + "SIZE = 'large'\n", ["'SIZE' is 'large'", "int | float"]),
    "another type in a container": (WHOLE + "NAMES = 'a'\n", ["'NAMES' is 'a'", "tuple"]),
    "other parameters": (WHOLE.replace("colour)", "color)"), ["'draw' takes (row, color)", "(row, colour)"]),
    "a value for a function": (WHOLE + "note = 'n'\n", ["'note' is no function", "(row)"]),
    "no docstring": (WHOLE.partition('."""\n')[2], ["no docstring"]),
    "an import that fails": (WHOLE + "import no_such_library\n", ["cannot be imported", "no_such_library"]),
    "bad syntax": (WHOLE + "def\n", ["cannot be imported", "SyntaxError"]),
}


@pytest.mark.parametrize(("text", "words"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_not_whole_is_refused(room, text, words):
    says(room({"good": WHOLE, "wrong": text}).check, "/wrong.py", *words)


def test_a_rule_of_the_room_is_told_with_the_file(room):
    found = room({"a": WHOLE}, rule=lambda module: "too small." if not hasattr(module, "SIZE") else None)
    says(found.check, "/a.py: too small.")
    room({"a": WHOLE + "SIZE = 9\n"}, rule=lambda module: None if module.SIZE > 8 else "no").check()


def example(guide):
    """The first Python block of a guide: a whole file."""
    text = (ROOT / f"docs/guides/{guide}.md").read_text(encoding="utf-8")
    return text.partition("```python\n")[2].partition("```")[0]


METHOD, QUANTIZER = example("add_a_method"), example("add_a_quantizer")
TASK = (ROOT / "pissa_repro/tasks/gsm8k.yaml").read_text(encoding="utf-8").replace("task: gsm8k", "task: sums")
FILES = {"methods/dct.py": METHOD, "quantizers/whole.py": QUANTIZER, "tasks/sums.yaml": TASK}
CONFIG = {
    "tasks": {"sums": {"task": "sums", "dataset": "gsm-mini-test", "max_new_tokens": 8}},
    "sweep": {
        "cells": [{"method": "dct", "quant": "none"}, {"method": "dct", "quant": "whole-fine"}],
        "ranks": [4], "seeds": [0], "tasks": ["sums"],
    },
}  # fmt: skip
SCORE = """
from pathlib import Path
from pissa_repro.scoring.harness import Task
task = Task("sums", Path("rows.jsonl"), 8)
print({name: metric["value"] for name, metric in task.score({0: ["The answer is: 3"], 1: ["none"]})[0].items()})
"""


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the workflow needs, with the three files put in, and a config that sweeps them."""
    copy = tmp_path / "checkout"
    for name in ("pissa_repro", "rules", "config", "profiles", "docs/report", "reference"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", copy)
    for name, text in FILES.items():
        (copy / "pissa_repro" / name).write_text(text, encoding="utf-8")
    (copy / "mine.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return copy


def run(copy, *command):
    """Run a Python command in the copy; its exit code and all that it said."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, *command], cwd=copy, env=environment, capture_output=True, encoding="utf-8")
    return done.returncode, done.stdout + done.stderr


def dry_run(copy):
    return run(copy, "-m", "snakemake", "-n", "results/scores.csv", "--configfile", "mine.yaml")


def test_one_file_each_appears_in_the_sweep_and_in_lists(checkout):
    code, said = dry_run(checkout)
    assert code == 0, said[-2000:]
    for cell in ("dct-none-r4", "dct-whole-fine-r4"):
        assert cell in said
    lists = "from pissa_repro import methods, quantizers, tasks\n" + "\n".join(
        f"print({room}.PLUGINS.lines()[{name!r}])"
        for room, name in (("methods", "dct"), ("quantizers", "whole"), ("tasks", "sums"))
    )
    code, said = run(checkout, "-c", lists)
    assert code == 0 and all(word in said for word in ("In no paper", "multiple of one step", "GSM8K")), said


def test_one_file_each_runs(checkout, tiny_model, tmp_path):
    """A start is made and measured on a quantized base, and answers are scored, by the stages' own code."""
    options = (str(tiny_model), "--method", "dct", "--quant", "whole-fine", "--rank", "4")
    code, said = run(
        checkout, "-m", "pissa_repro", "decompose", *options, "--factors", "--out", str(tmp_path / "start")
    )
    assert code == 0 and (tmp_path / "start").is_dir(), said[-2000:]
    code, said = run(checkout, "-m", "pissa_repro", "quant-error", *options, "--out", str(tmp_path / "error.json"))
    assert code == 0 and "reduction 0.00 %" in said, said[-2000:]
    rows = [f'{{"prompt": "{n} + 1?", "response": "#### {n + 1}"}}\n' for n in (2, 3)]
    (checkout / "rows.jsonl").write_text("".join(rows), encoding="utf-8")
    code, said = run(checkout, "-c", SCORE)
    assert code == 0 and "{'paper': 0.5, 'strict': 0.5}" in said, said[-2000:]


NOT_WHOLE = {
    "methods/dct.py": [
        (METHOD.replace("def start", "def strat"), ["unknown name 'strat'", "Did you mean 'start'?"]),
        (METHOD.replace("RANDOM = False", ""), ["no 'RANDOM'"]),
        (METHOD.partition("def start")[0], ["start(weight, setting)", "FACTORS = False"]),
    ],
    "quantizers/whole.py": [
        (QUANTIZER.replace("VARIANTS", "VARIANT"), ["unknown name 'VARIANT'", "Did you mean 'VARIANTS'?"]),
        (QUANTIZER.partition("def ")[0], ["no 'roundtrip'"]),
    ],
    "tasks/sums.yaml": [
        (TASK.replace("output_type", "output_typ"), ["unknown name 'output_typ'", "Did you mean 'output_type'?"]),
        (TASK.partition("metadata:")[0], ["no 'metadata'"]),
    ],
}


@pytest.mark.parametrize("name", NOT_WHOLE)
def test_a_dry_run_refuses_what_is_not_whole(checkout, name):
    for text, words in NOT_WHOLE[name]:
        (checkout / "pissa_repro" / name).write_text(text, encoding="utf-8")
        code, said = dry_run(checkout)
        assert code == 1 and "Traceback" not in said, said[-2000:]
        for word in (f"pissa_repro/{name}", *words):
            assert word in said, said[-2000:]
