"""What decides a rerun of a cheap stage: the source files that it reaches by imports."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from pissa_repro import quantizers, tasks
from pissa_repro.plan.code import files
from pissa_repro.plan.config import ROOT, load

TABLE, SCORES = "results/gsm8k_table.csv", "results/scores.csv"
CODE = {TABLE: ("pissa_repro.stages.table", "pissa_repro.exhibits.task_table"), SCORES: ("pissa_repro.stages.collect",)}


@pytest.fixture
def reached(tmp_path):
    """A function: writes the modules of a package `house`, {name: text}, and says which files the first ones reach."""

    def reached(modules, *asked):
        for name, text in ({"__init__": ""} | modules).items():
            path = tmp_path / "house" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
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
    code = f"import sys, {', '.join(CODE[TABLE])}, pissa_repro.report.tables.sweep\nprint(*{loaded})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, encoding="utf-8")
    loaded = {os.path.relpath(path, ROOT) for path in done.stdout.split()}
    assert len(loaded) > 15
    assert loaded <= set(files(*CODE[TABLE]))


def snakemake(folder, *arguments):
    environment = os.environ | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    command = ["snakemake", *arguments, "--configfile", "small.yaml"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def would_make(folder):
    """The first output of each job that a dry run would run for the table."""
    text = snakemake(folder, "-n", TABLE)
    made = set(re.findall(r"^ +output: ([^,\n]+)", text, re.MULTILINE))
    assert bool(made) != ("Nothing to be done" in text), text
    return made


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A copy of the checkout with a small sweep whose every job is done: its outputs are empty files."""
    folder = tmp_path_factory.mktemp("checkout").resolve()
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("pissa_repro", "rules", "config", "profiles", "reference", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, folder)
    (folder / "small.yaml").write_text(yaml.safe_dump({"sweep": {"seeds": [0]}}), encoding="utf-8")
    summary = snakemake(folder, TABLE, "--summary")
    outputs = re.findall(r"^((?:results|figures)/[^\t\n]+)\t", summary, re.MULTILINE)
    assert {SCORES, TABLE} < set(outputs)
    for path in map(folder.joinpath, outputs):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_folder = path.name == "trained" or "results/init/" in path.as_posix()
        path.mkdir() if is_folder else path.write_text("{}", encoding="utf-8")
    snakemake(folder, TABLE, "--touch", "--forceall", "--cores", "1", "--quiet", "all")
    return folder


def edited(folder, *paths):
    """What a dry run would make again after an edit of these files; then they are put back."""
    before = {
        folder / path: ((folder / path).read_text(encoding="utf-8"), (folder / path).stat().st_mtime_ns)
        for path in paths
    }
    for path, (text, _) in before.items():
        path.write_text(text + "\n# an edit\n", encoding="utf-8")
    try:
        return would_make(folder)
    finally:
        for path, (text, then) in before.items():
            path.write_text(text, encoding="utf-8")
            os.utime(path, ns=(then, then))


def swept():
    """The modules of the plug-ins that the config names, and all quantizers."""
    config = load(ROOT / "config/config.yaml")
    named = {config["methods"][cell["method"]]["init"] for cell in config["sweep"]["cells"]}
    modules = [f"pissa_repro.methods.{name}" for name in sorted(named | set(config["studies"]["methods"]))]
    modules += [f"pissa_repro.quantizers.{name}" for name in quantizers.PLUGINS.names()]
    used = {config["tasks"][task]["task"] for task in config["sweep"]["tasks"]}
    return modules + [tasks.load(name).rules.__name__ for name in sorted(used)]


def test_nothing_is_made_again_without_an_edit(done):
    assert would_make(done) == set()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("pissa_repro/results/stats.py", {TABLE}),
        ("pissa_repro/results/table.py", {SCORES, TABLE}),
        ("pissa_repro/quantizers/__init__.py", {SCORES, TABLE}),  # of what the methods import
        (swept()[0].replace(".", "/") + ".py", {SCORES, TABLE}),
        ("pissa_repro/quantizers/nf4.py", {SCORES, TABLE}),
        ("pissa_repro/tasks/gsm8k.yaml", {SCORES, TABLE}),
    ],
    ids=["of the table", "of the scores", "of both, far down", "a swept method", "a quantizer", "a swept task"],
)
def test_an_edit_of_what_a_table_reaches_makes_it_again(done, path, expected):
    assert edited(done, path) == expected


def test_an_edit_elsewhere_does_not(done):
    """Of everything else at once: trainers, other figures, methods that are not swept."""
    rows = files("pissa_repro.embedded.problems")  # makes the data again, and all that comes of it
    reached = {*files(*CODE[TABLE], *swept()), *files(*CODE[SCORES], *swept()), *rows}
    others = [path.relative_to(ROOT).as_posix() for path in (ROOT / "pissa_repro").rglob("*.py")]
    others = [path for path in others if path not in reached]
    assert len(others) > 50 and any(path.startswith("pissa_repro/methods/") for path in others)
    assert edited(done, *others) == set()


def test_a_release_does_not_make_the_embedded_rows_again(done):
    """The version stands in the package's own file: an edit there costs a table, never a training."""
    assert edited(done, "pissa_repro/__init__.py") == {SCORES, TABLE}
