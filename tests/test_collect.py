"""Collecting records: what belongs together, and what is refused."""

from pathlib import Path

import pytest

from pissa_repro.collect import Fetched, code, differing
from pissa_repro.errors import UserError
from pissa_repro.record import write_json


@pytest.fixture
def fetched(tmp_path) -> Fetched:
    write_json(tmp_path / "fetch/models/m.json", {"fingerprint": "a" * 64})
    write_json(tmp_path / "fetch/data/d.json", {"sha256": "b" * 64})
    return Fetched(tmp_path)


def record(weights: str = "a", rows: str = "b") -> dict:
    return {"base": {"fingerprint": weights * 64}, "data_sha256": rows * 64}


def test_a_record_of_the_present_weights_and_rows_passes(fetched):
    fetched.compare(Path("train.json"), record(), "m", "d")


@pytest.mark.parametrize(
    ("changed", "words"), [({"weights": "c"}, "other weights of m"), ({"rows": "c"}, "other rows of d")]
)
def test_a_record_of_other_weights_or_rows_is_refused(fetched, changed, words):
    with pytest.raises(UserError, match=words):
        fetched.compare(Path("train.json"), record(**changed), "m", "d")


def test_differences_name_the_place_and_both_values():
    wanted, found = {"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}
    assert list(differing(wanted, found)) == [
        "spec.a.c is 3, the config says 2",
        "spec.d is 4, the config says None",
    ]


def test_two_commits_are_both_named():
    def made(commit, dirty):
        return {"git": {"commit": commit, "dirty": dirty}}

    assert code(made("x", False), made("x", False)) == {"commit": "x", "dirty": False}
    assert code(made("x", False), made("y", True)) == {"commit": "x y", "dirty": True}
    assert code(made(None, None)) == {"commit": "unknown", "dirty": True}
