"""The paper's grid."""

import pytest
from verdicts import PAPER

from pissa_repro.plan.config import ROOT, load


@pytest.fixture(scope="session")
def config():
    """The paper's grid, on one model."""
    found = load(*(ROOT / path for path in PAPER))
    found["sweep"] |= {"models": ["llama-2-7b"], "cells": [{"method": "pissa", "quant": "none"}]}
    return found
