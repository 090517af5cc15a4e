"""The encoder-decoders of the tests, each written once."""

from pathlib import Path

import pytest
from encoders import KINDS, save_encoder_decoder


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    """A folder for each of encoders.KINDS. Do not write to them."""
    return {kind: save_encoder_decoder(tmp_path_factory.mktemp("seq2seq") / kind, kind) for kind in KINDS}
