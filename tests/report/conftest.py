"""A sweep for the report page."""

import pytest
from reported import Made


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Made:
    """A finished sweep. Do not write to it."""
    return Made(tmp_path_factory.mktemp("made"))
