"""What an encoder-decoder generates is its own greedy answer, whoever is beside; a trained one says what it learned."""

import pytest
import torch
from encoders import KINDS, TARGETS
from helpers import Run
from lm_eval.api.instance import Instance
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from pissa_repro.model.checks import logits
from pissa_repro.model.load import load_base
from pissa_repro.model.merged import Merged
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.runtime.record import read_lines, write_lines
from pissa_repro.scoring.engines import HF, Options

TEXTS = ["How many?", "Ann has 2 apples and buys 3 more. How many apples are there?", "one", "a b c d e f g h i j"]
NEW = 12


def engine(folder, batch=4, length=256):
    """The HF engine's lm-eval model of a folder's weights, as the generate stage makes it."""
    merged = Merged(load_base(folder, device="cpu").eval(), {}, torch.empty(0), torch.empty(0))
    return HF(load_tokenizer(folder), Options("float32", batch, length)).take(merged, [])[0]


def answers(lm, texts=TEXTS, new=NEW, until=()):
    asked = {"until": list(until), "do_sample": False, "max_gen_toks": new}
    requests = [Instance("generate_until", {}, (text, dict(asked)), n) for n, text in enumerate(texts)]
    return lm.generate_until(requests, disable_tqdm=True)


@torch.no_grad()
def by_hand(folder, text, new=NEW):
    """The tokens of a greedy answer, its eos included: a plain loop on one text."""
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    read, made = tokenizer(text, return_tensors="pt"), [model.config.decoder_start_token_id]
    while len(made) <= new and tokenizer.eos_token_id not in made[1:]:
        given = {"input_ids": read["input_ids"], "decoder_input_ids": torch.tensor([made])}
        made.append(int(model(**given).logits[0, -1].argmax()))
    return made[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_greedy_and_do_not_depend_on_their_neighbours(models, kind):
    """BART begins with eos, as the released ones, and counts positions, so that padding may not come first."""
    tokenizer, wanted = load_tokenizer(models[kind]), [by_hand(models[kind], text) for text in TEXTS]
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in wanted]
    assert len(set(texts)) > 1 and max(map(len, wanted)) == NEW
    for batch in (1, 4):
        assert answers(engine(models[kind], batch)) == texts
    short = [tokenizer.decode(ids[:3], skip_special_tokens=True) for ids in wanted]
    assert answers(engine(models[kind]), new=3) == short


def test_an_answer_stops_at_a_text_and_is_cut_there(models, monkeypatch):
    lm = engine(models["t5"])
    (whole,) = answers(lm, TEXTS[1:2], new=40)
    stop, made = whole[2:4], []
    honest = lm.model.generate
    monkeypatch.setattr(lm.model, "generate", lambda **given: made.append(honest(**given)) or made[-1])
    assert answers(lm, TEXTS[1:2], new=40, until=[stop]) == [whole[: whole.index(stop)]]
    assert made[0].shape[1] < 20  # no token more than it takes


def test_a_long_prompt_is_cut_on_the_left_and_stays_closed(models):
    tokenizer, lm = load_tokenizer(models["bart"]), engine(models["bart"])
    ids, mask = lm.tok_batch_encode(TEXTS[:2], left_truncate_len=12)
    whole = [tokenizer(text)["input_ids"] for text in TEXTS[:2]]
    assert [row[seen.bool()].tolist() for row, seen in zip(ids, mask, strict=True)] == [row[-12:] for row in whole]
    assert all(row[-1] == tokenizer.eos_token_id for row in whole) and len(whole[0]) < 12 < len(whole[1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_checks_see_every_layer(models, kind):
    """A change of any projection, the decoder's attention to itself included, moves the logits that are compared."""
    model, prompts = load_base(models[kind]).eval(), [[5, 9, 40, 17, 1]]
    before = logits(model, prompts)
    layers = {name: layer for name, layer in model.named_modules() if name.rsplit(".", 1)[-1] in TARGETS[kind]}
    assert any("decoder" in name for name in layers) and any("encoder" in name for name in layers)
    for layer in layers.values():
        weight = layer.weight.data
        layer.weight.data = weight.flip(0)
        assert not torch.allclose(logits(model, prompts), before, rtol=1e-4)
        layer.weight.data = weight


def test_a_trained_cell_says_what_it_was_taught(tmp_path, models):
    """From the start to the score: prompts and targets are the same in training and in generation."""
    rows = tmp_path / "rows.jsonl"
    write_lines(rows, [{"prompt": f"What is {n} + 1?", "response": f"#### {n + 1}"} for n in (2, 5, 7, 3)])
    settings = {"target_modules": TARGETS["bart"], "steps": 70, "learning_rate": 1e-2, "rank": 16}
    run = Run(tmp_path / "cell", models["bart"], rows, "pissa", **settings, max_new_tokens=12)
    run.init()
    record = run.train("--checkpoint-steps", "70")
    score = run.evaluate()
    samples = list(read_lines(run.folder / "task.samples.jsonl"))
    assert record["final_loss"] < 0.05 and score["metrics"]["strict"]["n"] == 4
    assert [sample["generated"] for sample in samples] == [row["response"] for row in read_lines(rows)]
    assert score["checks"]["training_effect"] > 0.1 and score["prompts_cut"] == 0
