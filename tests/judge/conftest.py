"""A judge that runs, a port on which nobody listens, and a journal."""

import pytest
from judge_server import Judge, closed_port, point_at, running


@pytest.fixture
def judge(monkeypatch):
    """A running judge that the environment names."""
    with running(Judge()) as served:
        point_at(monkeypatch, served.url)
        yield served


@pytest.fixture
def closed():
    """A base address on which nobody listens."""
    with closed_port() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "kept" / "judgements.jsonl"
