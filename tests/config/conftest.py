"""A config file with a given text."""

import pytest


@pytest.fixture
def written(tmp_path):
    """A function from a text (or bytes) to the path of a config file that holds it."""

    def write(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return path

    return write
