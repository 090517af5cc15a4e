"""An adapter that stock PEFT trained from PiSSA, once for all files here."""

import pytest
from peer import START, train


@pytest.fixture(scope="session")
def pissa_trained(tiny_model, tmp_path_factory):
    """PiSSA at rank 4, alpha 8, two steps. Do not write to its folders."""
    return train(tiny_model, tmp_path_factory.mktemp("pissa"), **START["pissa"])
