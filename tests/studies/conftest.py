"""Records of a study."""

import shutil

import pytest
from studied import measured, sweep_of

from pissa_repro.results.study import Study


@pytest.fixture(scope="session")
def study(tiny_model, tmp_path_factory) -> Study:
    """The records of the tiny Llama. Do not write to them."""
    return measured(sweep_of(tiny_model), tmp_path_factory.mktemp("study"))


@pytest.fixture
def copied(study, tmp_path) -> Study:
    """The same records, to be spoilt."""
    shutil.copytree(study.results, tmp_path / "results", ignore=shutil.ignore_patterns("scratch"))
    return Study(study.sweep, study.model, tmp_path / "results")
