"""`pissa reproduce --run` on the embedded model, which a config declares to be the paper's: minutes of work."""

import re

import pytest
from commands import pissa

CONFIG = """
models:
  mine: {path: embedded, display: mine, paper: llama-2-7b, micro_batch_size: 4}
datasets:
  rows:
    path: embedded:train
    rows: 16
    fields: {prompt: question, response: answer}
    response_format: gsm8k
    paper: metamath-100k
  questions: {path: "embedded:test", rows: 4, fields: {prompt: question, response: answer}}
tasks:
  short: {task: gsm8k, dataset: questions, max_new_tokens: 8, paper: gsm8k}
train: {batch_size: 4, steps: 2}
sweep: {ranks: [8], seeds: [0]}
"""


@pytest.mark.slow
def test_the_cells_behind_a_number_are_made_and_judged(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(CONFIG, encoding="utf-8")
    asked = ("reproduce", "--table", "2", "--model", "llama-2-7b", "--method", "pissa", "mine.yaml")
    pissa(*asked, "--run", "--cores", "2")
    said = capfd.readouterr().out
    assert re.search(r"ours: [\d.]+ over one seed, 4 items\nverdict: not comparable\n  steps is 2", said)
    pissa(*asked)
    out = capfd.readouterr().out
    assert "pissa-none-r8-lr2e-05-s0: trained in" in out and "scored\nto run:" in out
    assert "verdict: not comparable" in out
    assert len(list(tmp_path.glob("results/cells/*/*/*"))) == 1
