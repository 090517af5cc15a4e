"""The recipes of images: what they name is there, both make the same environment, and it is the lock's."""

import re
import shlex
import tomllib

import pytest

from pissa_repro.plan.config import ROOT

DOCKER, APPTAINER = (ROOT / "containers" / name for name in ("Dockerfile", "pissa.def"))
GUIDE = ROOT / "docs/guides/containers.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PLACE = "/pissa-repro"


def text(path) -> str:
    """A file with continued lines as one."""
    return re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))


def steps(path) -> list[str]:
    """What a recipe runs, command by command."""
    lines = (line.strip().removeprefix("RUN ") for line in text(path).splitlines() if not line.startswith("#"))
    return [part.strip() for line in lines for part in line.split("&&")]


def arguments(path) -> dict[str, str]:
    return dict(re.findall(r"^(?:ARG |    )(TORCH|EXTRAS)=(.*)$", text(path), re.MULTILINE))


def test_what_is_copied_is_in_the_checkout_and_enough_to_install():
    copied = [shlex.split(line)[1:-1] for line in text(DOCKER).splitlines() if line.startswith("COPY ")]
    assert all((ROOT / name).exists() for names in copied for name in names)
    assert copied[-1] == ["."] and {"pyproject.toml", "constraints.txt", PROJECT["readme"]} <= {*copied[0]}
    assert {*PROJECT["license-files"]} <= {*copied[0]}, "the build of the package reads them"
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert not {".git", "config", "reference", "rules", "profiles", "pissa_repro", "constraints.txt"} & {*ignored}


@pytest.mark.parametrize("path", [DOCKER, APPTAINER], ids=lambda path: path.name)
def test_the_lock_is_installed_on_a_python_that_the_package_supports(path):
    installs = [step for step in steps(path) if "pip install" in step]
    assert len(installs) == 2 and all("-c constraints.txt" in step for step in installs)
    version = re.search(r"^from: ?python:3\.(\d+)|^FROM python:3\.(\d+)", text(path), re.MULTILINE | re.IGNORECASE)
    assert f"Programming Language :: Python :: 3.{version[1] or version[2]}" in PROJECT["classifiers"]
    assert {*arguments(path)["EXTRAS"].split(",")} <= {*PROJECT["optional-dependencies"]}


def test_both_make_the_same_environment():
    def alike(path) -> set[str]:
        kept = {step for step in steps(path) if re.match(r"(apt-get|python -m|git config|uv )", step)}
        return {re.sub(r"\{\{ (\w+) \}\}", r"$\1", step) for step in kept}

    assert alike(DOCKER) == alike(APPTAINER) and len(alike(DOCKER)) == 6
    assert arguments(DOCKER) == arguments(APPTAINER)
    assert re.findall(r"HF_HOME=.*", text(DOCKER)) == re.findall(r"HF_HOME=.*", text(APPTAINER))


@pytest.mark.parametrize("path", [DOCKER, APPTAINER, GUIDE], ids=lambda path: path.name)
def test_every_place_that_is_named_is_there(path):
    inside = re.findall(rf"{PLACE}/([\w./-]+)", text(path))
    outside = re.findall(r"containers/[\w.]+", text(path))
    assert inside + outside and all((ROOT / name).exists() for name in inside + outside)
