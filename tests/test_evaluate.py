"""Scoring a trained cell: on the weights that were trained, with the prompts that were trained on."""

import math
import shutil
import subprocess
import sys

import pytest
import torch
from helpers import Run, load_json, scored_rows, trained_and_scored
from starting import alternating

from pissa_repro.model import factors
from pissa_repro.model.adapter import attach
from pissa_repro.model.base import set_base
from pissa_repro.model.checks import logits, relative_difference
from pissa_repro.model.load import load_base
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import content, read_json, read_lines, write_json
from pissa_repro.sources.prompt import written
from pissa_repro.stages import evaluate
from pissa_repro.training.examples import tokenize

CELLS = [("pissa", "none"), ("lora", "nf4"), ("loftq", "nf4"), ("pissa", "int8"), ("full", "none")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    """A PiSSA cell that has learnt a single row by heart, and the rows it is scored on."""
    folder = tmp_path_factory.mktemp("cell")
    rows = folder / "rows.jsonl"
    row = '{"prompt": "What is 2 + 3?", "response": "The answer is: 5\\n#### 5"}\n'
    rows.write_text(row * 4, encoding="utf-8")
    run = Run(folder, tiny_model, rows, "pissa", rank=32, learning_rate=1e-2, steps=60, max_new_tokens=40)
    run.init()
    run.train()
    other = '{"prompt": "How many legs have 7 cats?", "response": "7 * 4 = 28\\n#### 28"}\n'
    rows.write_text(row + other + row, encoding="utf-8")
    return run


def test_metrics_samples_and_record(trained):
    """Two of three items are right; the samples come in the data's order with what was generated."""
    record = trained.evaluate()
    for metric in ("paper", "strict"):
        found = record["metrics"][metric]
        assert found["n"] == 3 and found["value"] == pytest.approx(2 / 3)
        assert found["stderr"] == pytest.approx(math.sqrt(2 / 3 * 1 / 3 / 2))  # of a mean of three
    assert record["prompts_cut"] == 0
    assert record["spec"]["generate"]["train"] == trained.spec
    assert record["generated"]["tokens"] > 0 and record["generated"]["seconds"] > 0
    assert record["checks"]["training_effect"] > 0.1 and record["checks"]["merge_error"] < 1e-5
    samples = read_lines(trained.folder / "task.samples.jsonl")
    rows = read_lines(trained.rows)
    assert [sample["id"] for sample in samples] == [0, 1, 2]
    assert [sample["prompt"] for sample in samples] == [row["prompt"] for row in rows]
    assert [sample["paper"] for sample in samples] == [1, 0, 1] == [sample["strict"] for sample in samples]
    assert samples[0]["generated"].strip().startswith("The answer is: 5\n#### 5")
    assert samples[0]["generated"] == samples[2]["generated"] != samples[1]["generated"]
    assert record["seen_in_training"] is None, "unknown without the training's rows"


def test_the_record_and_the_log_say_which_scored_prompts_were_trained_on(trained, tmp_path, caplog):
    """Case 21: two of the three; and none of other rows, without a warning."""
    others, taught = (tmp_path / name for name in ("others.jsonl", "taught.jsonl"))
    others.write_text('{"prompt": "What is 2 + 4?", "response": "6"}\n', encoding="utf-8")
    taught.write_text(
        '{"prompt": " What is  2 + 3?", "response": "5"}\n' + others.read_text(encoding="utf-8"), encoding="utf-8"
    )
    assert trained.evaluate("--trained-on", str(others))["seen_in_training"] == 0
    assert "prompt" not in caplog.text
    assert trained.evaluate("--trained-on", str(taught))["seen_in_training"] == 2
    assert "2 of the rows" in caplog.text and str(taught) in caplog.text


@pytest.mark.parametrize("batch", ["1", "3"])
def test_the_batch_of_generation_does_not_change_the_text(trained, batch):
    """Prompts of different lengths are padded on the left and masked (pitfall 23, docs/pitfalls.md)."""
    trained.evaluate()
    kept = read_lines(trained.folder / "task.samples.jsonl")
    trained.generated.unlink()
    trained.evaluate("--batch-size", batch)
    assert read_lines(trained.folder / "task.samples.jsonl") == kept


def test_the_text_is_that_of_a_plain_greedy_loop(trained, tiny_model):
    """Token by token on the trained model, adapters apart, nothing of lm-eval."""
    trained.evaluate()
    samples = read_lines(trained.folder / "task.samples.jsonl")
    model, tokenizer = trained_model(trained, tiny_model)
    template = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    )
    for sample in samples[:2]:
        ids = tokenizer.encode(f"{template}\n\n### Instruction:\n{sample['prompt']}\n\n### Response:")
        start = len(ids)
        while len(ids) - start < 40 and tokenizer.eos_token_id not in ids[start:]:
            ids.append(int(logits(model, [ids])[0].argmax()))
        assert sample["generated"] == tokenizer.decode(ids[start:], skip_special_tokens=True)


def trained_model(run, folder):
    """The model as it left the training: the packed base with the trained adapter on it."""
    stored = read_json(run.model)
    if run.init_spec is None:
        return load_base(run.trained), load_tokenizer(folder)
    base = load_base(folder)
    set_base(base, factors.load(run.start, stored), run.cell.quant, "float32", pack=True)
    return attach(base, run.factors), load_tokenizer(folder)


@pytest.mark.parametrize(("method", "quant"), CELLS)
def test_what_is_scored_is_what_was_trained(tmp_path, tiny_model, tiny_rows, method, quant):
    """The merged model's logits are those of the trained one, quantized bases too (pitfall 24), and the last loss."""
    options = alternating(method, quant, 2)
    run = Run(tmp_path, tiny_model, tiny_rows, method, quant, options=options, steps=4, learning_rate=5e-3)
    run.init()
    run.train()
    prompts = [list(range(3, 40)), list(range(200, 220))]
    merged, checks, *_ = run.merged(prompts)
    wanted = logits(trained_model(run, tiny_model)[0], prompts)
    assert relative_difference(logits(merged, prompts), wanted) < 1e-5
    assert checks["training_effect"] > 1e-3
    assert all(p.dtype == torch.float32 for p in merged.parameters())
    assert not any("lora" in name for name, _ in merged.named_parameters())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_qpissa_trains_and_is_scored(tmp_path, tiny_model, tiny_rows, dtype):
    """From the start to the score on a packed base, as on a card (test_gpu.py)."""
    record, score = trained_and_scored(Run(tmp_path, tiny_model, tiny_rows, "pissa", "nf4", dtype=dtype))
    assert record["dtypes"]["trained"] == ["float32"] and "uint8" in record["dtypes"]["frozen"]
    assert score["metrics"]["paper"]["n"] == 3 and score["checks"]["training_effect"] > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("method", "quant"), CELLS)
def test_a_training_that_changed_nothing_is_refused(tmp_path, tiny_model, tiny_rows, method, quant, dtype):
    """Pitfall 20. Untrained factors, also where quantization or rounding alone changes the logits."""
    run = Run(tmp_path, tiny_model, tiny_rows, method, quant, dtype=dtype)
    run.init()
    shutil.copytree(run.start if run.init_spec else tiny_model, run.factors if run.init_spec else run.trained)
    start = factors.sha256(run.start) if run.init_spec else None
    write_json(run.record, {"trained_sha256": content(run.trained), "start_sha256": start})
    run.rows = scored_rows(tmp_path)
    with pytest.raises(UserError, match="do not change the model's output"):
        run.evaluate()
    assert not (tmp_path / "task.json").exists()


def test_dora_is_scored_as_trained(tmp_path, tiny_model, tiny_rows):
    run = Run(tmp_path, tiny_model, tiny_rows, "pissa", "nf4", lora={"use_dora": True}, steps=3, learning_rate=5e-3)
    run.init()
    run.train()
    assert any("lora_magnitude" in key for key in _keys(run.factors))
    prompts = [list(range(3, 40))]
    merged = run.merged(prompts).model
    wanted = logits(trained_model(run, tiny_model)[0], prompts)
    assert relative_difference(logits(merged, prompts), wanted) < 1e-5


def _keys(folder):
    from safetensors import safe_open

    with safe_open(folder / factors.FACTORS, framework="pt") as file:
        return list(file.keys())


KILLED = """
import os, signal, sys
from pissa_repro.stages import evaluate
evaluate.write_json = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
evaluate.main(sys.argv[1:])
"""


def test_the_record_comes_last(trained):
    """SIGKILL between samples and record: there is no record without its samples, and the next run finishes."""
    record, samples = trained.folder / "task.json", trained.folder / "task.samples.jsonl"
    for path in (record, samples):
        path.unlink(missing_ok=True)
    done = subprocess.run([sys.executable, "-c", KILLED, *trained.evaluate_argv()], cwd=ROOT, capture_output=True)
    assert done.returncode == -9, done.stderr[-2000:]
    assert samples.exists() and not record.exists()
    assert trained.evaluate()["metrics"]["paper"]["n"] == len(read_lines(samples))


def test_prompts_are_tokenized_in_scoring_as_in_training(tiny_model, tiny_rows):
    """The tokenizer puts <s> in front: lm-eval must not leave it out, nor put a second one (pitfall 23)."""
    from pissa_repro.scoring import lms

    tokenizer = load_tokenizer(tiny_model)
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    rows = read_lines(tiny_rows)
    examples, _ = tokenize(rows, tokenizer, 512)
    heads = [example["input_ids"][: example["labels"].count(-100)] for example in examples]
    lm = lms.HF(pretrained=load_base(tiny_model), tokenizer=tokenizer, batch_size=4, max_length=512)
    texts = [written("alpaca", [row["prompt"]]) for row in rows]
    ids, mask = lm.tok_batch_encode(texts)
    assert [row[seen.bool()].tolist() for row, seen in zip(ids, mask_of(ids, mask), strict=True)] == heads
    assert [lm.tok_encode(text) for text in texts] == heads
    assert [row.count(tokenizer.bos_token_id) for row in heads] == [1] * len(heads)


def mask_of(ids, mask):
    """lm-eval's attention mask; padding is on the left."""
    assert mask.shape == ids.shape
    assert all(row.tolist() == sorted(row.tolist()) for row in mask)
    return mask


def test_prompts_that_do_not_fit_are_counted(trained):
    """The window less the answer is one token short for the longest prompt, and enough for the others."""
    tokenizer = load_tokenizer(load_json(trained.model)["path"])
    texts = [written("alpaca", [row["prompt"]]) for row in read_lines(trained.rows)]
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    assert len(set(lengths)) == 2
    argv, room = trained.evaluate_argv(), max(lengths) - 1
    argv[1] = argv[1].replace('"max_new_tokens":40', f'"max_new_tokens":{512 - room}')
    evaluate.main(argv)
    assert read_json(trained.folder / "task.json")["prompts_cut"] == sum(n > room for n in lengths) == 1


def test_an_answer_longer_than_the_window_is_refused(trained):
    argv = trained.evaluate_argv()
    argv[1] = argv[1].replace('"max_new_tokens":40', '"max_new_tokens":512')
    with pytest.raises(UserError, match="max_new_tokens 512 fills the model's window of 512"):
        evaluate.main(argv)


def test_factors_of_another_model_are_refused(trained):
    with pytest.raises(UserError, match="of another model"):
        trained.merged([[1, 2]], fingerprint="0" * 64)
