"""Small disks, and files that may not grow, for tests of what a failed write leaves."""

import resource
import subprocess
from pathlib import Path

import pytest

from pissa_repro.plan.config import ROOT


def limit_file_size() -> None:
    """Let no file of this process grow beyond 4 KiB: `ulimit -f`, a batch system's file limit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def _own_mounts() -> bool:
    try:
        command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def on_a_disk(folder: Path, options: str, command: list[str]) -> subprocess.CompletedProcess:
    """Run a command with a disk of its own at `folder`, mounted with these options; its output ends with what is left
    there. Skips where a user may not mount one."""
    if not _own_mounts():
        pytest.skip("needs `unshare -rm` and mount, to make a small disk")
    folder.mkdir(parents=True)
    script = f'mount -t tmpfs -o {options} none "{folder}"; "$@"; code=$?; ls -A "{folder}"; exit $code'
    whole = ["unshare", "-rm", "sh", "-c", script, "sh", *command]
    return subprocess.run(whole, capture_output=True, encoding="utf-8", cwd=ROOT)
