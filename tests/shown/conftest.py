"""A sweep with all that the paper's exhibits show of the embedded model, and its records made by hand."""

import pytest
from recorded import record

from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep


@pytest.fixture(scope="session")
def swept() -> Sweep:
    """The shipped overlay. Do not write to its config."""
    return Sweep(load(ROOT / "config/config.yaml", ROOT / "config/paper_embedded.yaml"))


@pytest.fixture(scope="session")
def recorded(swept, tmp_path_factory):
    """The folder of its records. Do not write to it."""
    folder = tmp_path_factory.mktemp("recorded")
    record(swept, folder)
    return folder
