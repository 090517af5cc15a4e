"""What decides a rerun of a cheap stage: the source files that it reaches by imports."""

import os
import subprocess
import sys

import pytest

from pissa_repro.plan.code import files
from pissa_repro.plan.config import ROOT

TABLE = "results/gsm8k_table.csv"
CODE = {TABLE: "pissa_repro.stages.table"}


@pytest.fixture
def reached(tmp_path):
    """A function: writes the modules of a package `house`, {name: text}, and says which files the first ones reach."""

    def reached(modules, *asked):
        for name, text in ({"__init__": ""} | modules).items():
            path = tmp_path / "house" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        found = files(*(f"house.{name}" for name in asked or ("a",)), root=tmp_path)
        assert found == sorted(found)
        return [path.removeprefix("house/").removesuffix(".py") for path in found if path != "house/__init__.py"]

    return reached


def test_a_chain_is_followed_to_its_end_and_no_further(reached):
    modules = {"a": "import house.b", "b": "from house import c", "c": "import house.a", "d": "import house.a"}
    assert reached(modules) == ["a", "b", "c"]
    assert reached(modules, "d") == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "text",
    [
        "def late():\n    from house.b import name",
        "class A:\n    async def late(self):\n        with x:\n            import house.b as c",
        "try:\n    import house.b\nexcept ImportError:\n    pass",
        "try:\n    pass\nexcept ImportError:\n    import house.b",
        "for x in y:\n    pass\nelse:\n    import house.b",
        "match x:\n    case 1:\n        import house.b",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import house.b",
    ],
)
def test_an_import_counts_wherever_it_stands(reached, text):
    assert reached({"a": text, "b": ""}) == ["a", "b"]


@pytest.mark.parametrize("name", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_an_import_for_types_only_does_not_count(reached, name):
    assert reached({"a": f"if {name}:\n    from house.b import name", "b": ""}) == ["a"]


@pytest.mark.parametrize(
    "line", ["from house.room import b", "from house.room.b import name", "import house.room.b", "from .room import b"]
)
def test_the_package_around_a_module_runs_too(reached, line):
    """And what that package imports."""
    modules = {"a": line, "c": "", "room/__init__": "import house.c", "room/b": "", "room/d": ""}
    assert reached(modules) == ["a", "c", "room/__init__", "room/b"]


def test_a_name_of_a_package_leads_to_the_package_alone(reached):
    modules = {"a": "from house.room import name", "room/__init__": "name = 1", "room/b": ""}
    assert reached(modules) == ["a", "room/__init__"]


def test_a_plug_in_that_is_found_by_scanning_is_reached_where_it_is_named(reached):
    scan = "import importlib\n\ndef load(name):\n    return importlib.import_module(f'{__name__}.{name}')"
    modules = {"a": "import house.room, json", "room/__init__": scan, "room/b": "import house.c", "c": "", "json": ""}
    assert reached(modules) == ["a", "room/__init__"]
    assert reached(modules, "a", "room.b") == ["a", "c", "room/__init__", "room/b"]


def test_a_module_without_a_file_is_refused(reached):
    with pytest.raises(ModuleNotFoundError, match="house.b"):
        reached({"a": ""}, "a", "b")


def test_what_a_stage_loads_is_among_the_files_that_it_reaches():
    """Python's own account of the imports at the top, against the one that is read from the text."""
    loaded = "(module.__file__ for name, module in sys.modules.items() if name.startswith('pissa_repro'))"
    code = f"import sys, {CODE[TABLE]}\nprint(*{loaded})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    loaded = {os.path.relpath(path, ROOT) for path in done.stdout.split()}
    assert len(loaded) > 15
    assert loaded <= set(files(CODE[TABLE]))
