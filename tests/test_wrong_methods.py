"""A method that breaks a promise is caught by the check of that promise, and by none before it."""

import pytest
from plugged import plugged, text
from promises import CHECKS
from wrong_methods import RIGHT, WRONG

from pissa_repro.runtime.errors import UserError


@pytest.fixture(scope="module", autouse=True)
def thrown_away(tmp_path_factory):
    files = {name: text(name, *rest) for name, rest in RIGHT.items()}
    files |= {name: text(name, *rest) for name, (_, *rest) in WRONG.items()}
    with plugged(tmp_path_factory.mktemp("methods"), files):
        yield


def caught(name, quant="none"):
    """The first check that a method does not pass, and what it says; None where it passes all."""
    for check, function in CHECKS.items():
        try:
            function(name, quant)
        except (AssertionError, UserError) as error:
            return check, str(error)
    return None


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_method_is_caught(name):
    check, said = caught(name)
    assert check == WRONG[name][0], said
    assert said, "a check that says nothing"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a_statistic_that_is_not_asked_for", "reads the gradient of data, and STATISTICS asks for covariance."),
        ("no_statistics", "reads the magnitude of data, and STATISTICS asks for none."),
        ("a_statistic_that_there_is_not", "unknown kind of statistic 'gradients'. Did you mean 'gradient'?"),
    ],
)
def test_a_statistic_that_the_file_does_not_name_is_told(name, words):
    _, said = caught(name)
    assert f"pissa_repro/methods/{name}.py: {words}" in said


@pytest.mark.parametrize("name", RIGHT)
def test_a_method_that_keeps_its_promises_is_not(name):
    assert caught(name) is None


def test_every_check_catches_a_method():
    assert {check for check, *_ in WRONG.values()} == CHECKS.keys()
