"""The rooms of the package are floors: a file imports its own room and lower floors, never its floor or above."""

import ast
import re
import shutil
import subprocess
import sys

import pytest

from pissa_repro.plan.config import ROOT

ROOMS = (  # the ground floor first; rooms on one floor do not know each other
    ("runtime", "embedded"), ("linalg", "grading"), ("quantizers",), ("methods",), ("model",), ("sources",),
    ("tasks", "training"), ("exchange",), ("plan",), ("starts", "adapters", "scoring", "results"),
    ("studies", "paper", "admission"), ("report",), ("exhibits",), ("stages", "cli"),
)  # fmt: skip
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
PACKAGE = ROOT / "pissa_repro"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST = 3  # modules of its own that the package may hold beside its rooms
NAMES = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES}
MODULES = set(NAMES.values())


def imported(path):
    """The modules that a file imports, inside functions too; of a name that is no module, the module that has it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports by a relative name"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else node.module for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def upward(path, room):
    """The rooms of the same floor or above that a file of a room imports."""
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("pissa_repro.")}
    return {other for other in rooms - {room} if FLOOR.get(other, len(ROOMS)) >= FLOOR[room]}


def inside(path):
    return path.relative_to(PACKAGE).parts[0]


def test_every_folder_is_a_room_with_a_floor_and_says_what_lives_there():
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(FLOOR)
    for room in FLOOR:
        assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))), room


def test_the_package_itself_holds_few_modules():
    assert len(list(PACKAGE.glob("*.py"))) <= MOST


@pytest.mark.parametrize("path", [path for path in FILES if inside(path) in FLOOR], ids=NAMES.get)
def test_a_file_imports_lower_floors_only(path):
    room = inside(path)
    assert not upward(path, room), f"{room} is on floor {FLOOR[room]}"


@pytest.mark.parametrize(
    "line", ["from pissa_repro.stages import train", "from pissa_repro import report", "import pissa_repro.cli"]
)
def test_an_upward_import_is_found(tmp_path, line):
    copy = tmp_path / "measure.py"
    shutil.copy(PACKAGE / "results" / "measure.py", copy)
    assert not upward(copy, "results")
    copy.write_text(copy.read_text(encoding="utf-8") + f"\n\ndef late():\n    {line}\n", encoding="utf-8")
    assert upward(copy, "results") == {line.replace(" import ", ".").split("pissa_repro.")[1].split(".")[0]}


def circle(graph):
    """One circle of a graph {node: the nodes it leads to}, or an empty list."""
    done, way = set(), []

    def visit(node):
        if node in way:
            return way[way.index(node) :]
        if node in done:
            return []
        way.append(node)
        for following in sorted(graph[node]):
            if found := visit(following):
                return found
        done.add(way.pop())
        return []

    return next((found for node in graph if (found := visit(node))), [])


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: MODULES & set(imported(path)) for path, name in NAMES.items()}
    assert sum(map(len, graph.values())) > 200
    assert not circle(graph)
    assert circle(graph | {"pissa_repro.runtime.errors": {"pissa_repro.stages.train"}})


def test_options_are_read_in_stages_and_commands_only():
    readers = {inside(path) for path in FILES if {"argparse", "typer"} & set(imported(path))}
    assert readers <= {"stages", "cli"}


def test_no_stage_imports_another():
    for path in (PACKAGE / "stages").glob("*.py"):
        others = {name for name in imported(path) if name.startswith("pissa_repro.stages.")}
        assert all(name.startswith("pissa_repro.stages.options") for name in others), path


def test_a_dry_run_loads_no_torch():
    """Neither what the rules import nor the check of all plug-ins."""
    text = (ROOT / "rules" / "common.smk").read_text(encoding="utf-8")
    lines = re.findall(r"^from pissa_repro.*$", text, re.MULTILINE)
    check = "exhibits.PLUGINS.check(); checked(load(ROOT / 'config/config.yaml'))"
    lines.append("from pissa_repro.plan.config import ROOT, load")
    code = "\n".join([*lines, check, "import sys", "assert not {'torch', 'matplotlib', 'lm_eval'} & set(sys.modules)"])
    assert len(lines) > 3
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
