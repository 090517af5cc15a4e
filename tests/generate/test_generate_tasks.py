"""Tasks that are more than one greedy answer: perplexity, two turns and a judge, programs in the sandbox."""

import json

import pytest
import torch
from generated_cells import other_task
from judge_server import Judge, running
from stage import says

from pissa_repro.model import load, tokens
from pissa_repro.model.checks import logits
from pissa_repro.runtime.record import read_json, read_lines
from pissa_repro.scoring import generations
from pissa_repro.scoring.generator import Generator
from pissa_repro.sources.fetched import stored_model
from pissa_repro.sources.prompt import Style
from pissa_repro.stages import evaluate


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 2e-3)])
def test_perplexity_is_that_of_the_trained_model(fresh, tmp_path, dtype, tolerance):
    """Against a plain sum of log-probabilities, every token predicted once, the first one from bos.

    In bfloat16 too: the sum itself is not rounded to that type.
    """
    texts = ["Ann has 2 apples.\n" * 12, "Bob buys 3 more and eats 4.\n" * 9]
    job = other_task(fresh, tmp_path, "perplexity", [{"text": text} for text in texts], ["text"])
    job.spec["dtype"] = dtype
    Generator(stored_model(fresh.model), 4).run([job])
    found = generations.read(job.out)
    assert set(found.turns) == {0, 1}
    tokenizer = tokens.load_tokenizer(stored_model(fresh.model)["path"])
    model = fresh.merged([[1, 2]]).model
    for item, text in enumerate(texts):
        ids = tokenizer(text)["input_ids"]
        ids = ids if ids[0] == tokenizer.bos_token_id else [tokenizer.bos_token_id, *ids]
        with torch.no_grad():
            rows = model.to(load.DTYPES[dtype])(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
        wanted = sum(row[token].item() for row, token in zip(rows, ids[1:], strict=True))
        (one,) = found.turns[item]
        assert one["loglikelihood"] == pytest.approx(wanted, rel=tolerance), (one, len(ids))


def test_the_second_turn_answers_the_conversation(fresh, tmp_path):
    """MT-Bench's second prompt holds the first answer; a kill between the turns would lose neither."""
    rows = [{"turns": ["What is 2 + 2?", "And 3 more?"], "category": "math", "reference": None}]
    job = other_task(fresh, tmp_path, "mt_bench", rows, ["turns", "category", "reference"])
    Generator(stored_model(fresh.model), 4).run([job])
    first, second = generations.read(job.out).turns[0]
    tokenizer = tokens.load_tokenizer(stored_model(fresh.model)["path"])
    prompt = job.task.request(0, [first], Style("alpaca", tokenizer)).args[0]
    assert first.strip() in prompt and "And 3 more?" in prompt and prompt.count("### Response:") == 2
    model = fresh.merged([[1, 2]]).model
    ids = tokenizer(prompt)["input_ids"]
    start = len(ids)
    while len(ids) - start < 16 and tokenizer.eos_token_id not in ids[start:]:
        ids.append(int(logits(model, [ids])[0].argmax()))
    assert second == tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_mt_bench_is_judged_where_its_answers_are_kept(fresh, tmp_path, monkeypatch):
    """Without a judge the answers are kept and the message says how to go on; with one, nothing is generated again."""
    rows = [
        {"turns": ["What is 2 + 2?", "And 3 more?"], "category": "math", "reference": ["4", "7"]},
        {"turns": ["Write a line.", "Shorter."], "category": "writing", "reference": None},
    ]
    job = other_task(fresh, tmp_path, "mt_bench", rows, ["turns", "category", "reference"])
    spec = {"stage": "evaluate", "version": 1, "generate": job.spec}
    record = tmp_path / "eval" / "mt.json"
    argv = [
        "--spec", json.dumps(spec), "--data", str(job.rows), "--generations", str(job.out), "--record", str(record),
        "--samples", str(tmp_path / "eval" / "mt.samples.jsonl"),
    ]  # fmt: skip
    Generator(stored_model(fresh.model), 4).run([job])
    monkeypatch.delenv("PISSA_REPRO_JUDGE_URL", raising=False)
    monkeypatch.delenv("PISSA_REPRO_JUDGE_MODEL", raising=False)
    says(lambda: evaluate.main(argv), "PISSA_REPRO_JUDGE_URL")
    before = job.out.read_bytes()
    with running(Judge(say=lambda prompt: "Rating: [[3]]" if "7" in prompt else "Rating: [[8.5]]")) as server:
        monkeypatch.setenv("PISSA_REPRO_JUDGE_URL", server.url)
        monkeypatch.setenv("PISSA_REPRO_JUDGE_MODEL", "some-judge")
        evaluate.main(argv)
    found = read_json(record)
    assert found["metrics"]["paper"]["n"] == 2 and 3 <= found["metrics"]["paper"]["value"] <= 8.5
    assert found["judge"]["model"] == "some-judge" and found["judge"]["judgements"] == 4
    kept = read_lines(job.out.with_suffix(".judgements.jsonl"))
    assert len(kept) >= 4 and job.out.read_bytes() == before
    record.unlink()
    evaluate.main(argv)  # every judgement is kept: no server is needed
    assert read_json(record)["metrics"] == found["metrics"]


def test_programs_are_scored_in_the_sandbox_and_the_record_says_which(fresh, tmp_path):
    test = "def check(candidate):\n    assert candidate(2) == 4\n"
    header = 'def double(x):\n    """Twice x."""\n'
    row = {"prompt": header, "response": "    return 2 * x\n", "test": test, "entry_point": "double"}
    job = other_task(fresh, tmp_path, "humaneval", [row, row], ["prompt", "response", "test", "entry_point"])
    Generator(stored_model(fresh.model), 4).run([job])
    lines = [json.loads(line) for line in job.out.read_text(encoding="utf-8").split("\n") if line]
    for line in lines:
        if line.get("id") == 0:
            line["generated"] = "```python\ndef double(x):\n    return 2 * x\n```"
    job.out.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    spec, record = {"stage": "evaluate", "version": 1, "generate": job.spec}, tmp_path / "code.json"
    evaluate.main([
        "--spec", json.dumps(spec), "--data", str(job.rows), "--generations", str(job.out), "--record", str(record),
        "--samples", str(tmp_path / "code.samples.jsonl"),
    ])  # fmt: skip
    found = read_json(record)
    assert found["metrics"]["paper"]["value"] == 0.5 and found["sandbox"]["kind"] in ("bubblewrap", "namespaces")
    assert found["sandbox"]["weaknesses"]
