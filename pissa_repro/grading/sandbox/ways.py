"""The command lines that start a sandbox: what is shown to a program, and bwrap's options."""

import functools
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import TypedDict

from pissa_repro.runtime.errors import UserError

# Both files as one program, in which the second finds the first under its name.
INSIDE = '\nimport sys\nsys.modules["pissa_repro.grading.sandbox.confine"] = sys.modules["__main__"]\n'.join(
    (Path(__file__).parent / name).read_text(encoding="utf-8") for name in ("confine.py", "play.py")
)
LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/localtime")
PACKAGES = ("numpy",)  # the tests of HumanEval+ and MBPP+ import it
# All that a program finds there. The fixed seed: the order of sets is the same in every run. The threads:
# a library that starts one for each core of a large machine would meet the limit on processes.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Request(TypedDict):
    """What the sandbox reads from its standard input."""

    kind: str
    program: str
    token: str
    path: list[str]  # what to add to sys.path
    mounts: list[tuple[str, str]]
    limits: dict[str, int]


class Report(TypedDict):
    """What the keeper says of the player: see `sandbox.Outcome`."""

    status: str
    error: str
    seconds: float


@functools.cache
def interpreter() -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """The command that starts Python, the host's paths that it needs (source, target), and what to add to sys.path.

    No site packages but PACKAGES.
    """
    command = [os.path.realpath(sys.executable), "-B", "-P", "-S", "-s", "-X", "utf8", "-c", INSIDE]
    prefix = os.path.realpath(sys.base_prefix)
    shown = [prefix, *(path for path in LIBRARIES if os.path.lexists(path) and not path.startswith(prefix + "/"))]
    mounts, folders = [(path, path) for path in shown], set()
    for name in PACKAGES:
        package = importlib.util.find_spec(name)
        if not package or not package.origin:
            continue
        home = Path(package.origin).resolve().parents[1]
        if home.is_relative_to(prefix):
            folders.add(str(home))
            continue
        parts = [home / name, home / f"{name}.libs"]  # a wheel's own shared libraries lie beside it
        mounts += [(str(part), f"/packages/{part.name}") for part in parts if part.is_dir()]
        folders.add("/packages")
    return command, mounts, sorted(folders)


def bubblewrap(scratch_mib: int) -> list[str]:
    """The command line of bwrap, up to the interpreter."""
    if not shutil.which("bwrap"):
        raise UserError("bubblewrap is not installed.")
    command = [str(shutil.which("bwrap")), "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    if os.geteuid() == 0:  # confine.py then becomes a stranger, on whom the limit on processes holds
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user"]
    command += ["--as-pid-1", "--die-with-parent", "--new-session", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        command += ["--setenv", name, value]
    for source, target in interpreter()[1]:
        for parent in reversed(Path(target).parents[:-1]):  # or bwrap makes those of a private folder private
            command += ["--dir", str(parent)]
        link = os.path.islink(source)
        command += ["--symlink", os.readlink(source), target] if link else ["--ro-bind", source, target]
    command += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    if os.path.exists("/proc/keys"):  # the names of the caller's keys
        command += ["--ro-bind", "/dev/null", "/proc/keys"]
    command += ["--perms", "1777", "--size", str(scratch_mib << 20), "--tmpfs", "/tmp"]
    return [*command, "--remount-ro", "/", "--chdir", "/tmp", "--"]
