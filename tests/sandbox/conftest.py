"""Every kind of sandbox, and a world around it."""

import shutil
import time

import pytest
from world import CANARIES, World

from pissa_repro.grading import sandbox


@pytest.fixture(params=sandbox.KINDS)
def way(request, monkeypatch):
    """Each kind in turn. Without bubblewrap its tests skip; namespaces have to work where the suite runs."""
    if request.param == "bubblewrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    monkeypatch.setenv(sandbox.FORCE, request.param)
    return request.param


@pytest.fixture(scope="session", autouse=True)
def stale_canaries():
    """Remove those that a killed run left."""
    for folder in CANARIES:
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            if file.stat().st_mtime < time.time() - 3600:
                file.unlink(missing_ok=True)


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    for file in made.files:
        file.unlink(missing_ok=True)
