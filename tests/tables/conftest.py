"""The config whose tables are tested."""

import pytest

from pissa_repro.plan.config import ROOT, load


@pytest.fixture(scope="session")
def config():
    """The shipped config. Do not write to it."""
    return load(ROOT / "config/config.yaml")
