"""A cell that is trained and asked by its tokenizer's chat template, through the stages."""

import dataclasses
import hashlib

import pytest
import torch
from chats import TEMPLATE, chat_model, rendered
from generated_cells import other_task
from helpers import Run

from pissa_repro.model import load, tokens
from pissa_repro.model.checks import logits
from pissa_repro.runtime.record import read_json, read_lines, write_lines
from pissa_repro.scoring import generations, lms
from pissa_repro.scoring.generator import Generator
from pissa_repro.sources.fetched import stored_model
from pissa_repro.sources.prompt import make_style

WORDS, ANSWER = "What is 2 + 3?", "The answer is: 5\n#### 5"
HASH = hashlib.sha256(TEMPLATE.encode()).hexdigest()
END = 4  # of the template's messages; eos is 1


@pytest.fixture(scope="module")
def learnt(tmp_path_factory, tiny_model):
    """A PiSSA cell that knows one answer by heart, trained and scored as a chat."""
    folder = tmp_path_factory.mktemp("chat")
    model = chat_model(tiny_model, folder / "model")
    write_lines(folder / "rows.jsonl", [{"prompt": WORDS, "response": ANSWER}] * 4)
    settings = {"rank": 32, "learning_rate": 1e-2, "steps": 60, "max_new_tokens": 40, "prompt": "chat"}
    run = Run(folder / "cell", model, folder / "rows.jsonl", "pissa", **settings)
    run.init()
    run.train()
    write_lines(run.rows, [{"prompt": words, "response": "#### 5"} for words in (WORDS, "How many legs has a cat?")])
    return run


def by_hand(run, *texts, new):
    """The text of a greedy answer to a conversation, rendered and tokenized by transformers; nothing of lm-eval."""
    tokenizer, model = tokens.load_tokenizer(stored_model(run.model)["path"]), run.merged([[1, 2]]).model
    ids = rendered(tokenizer, *texts)
    start = len(ids)
    while len(ids) - start < new and not {END, tokenizer.eos_token_id} & set(ids[start:]):
        ids.append(int(logits(model, [ids])[0].argmax()))
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_what_was_learnt_as_a_chat_is_said_and_ended_as_one(learnt):
    """The answer, and nothing behind the template's end of it; the other item is what a plain loop gives."""
    record = learnt.evaluate()
    assert record["metrics"]["strict"]["value"] >= 0.5
    known, other = read_lines(learnt.folder / "task.samples.jsonl")
    assert (known["prompt"], known["generated"]) == (WORDS, ANSWER) == (WORDS, by_hand(learnt, WORDS, new=40))
    assert other["generated"] == by_hand(learnt, other["prompt"], new=40)
    assert record["spec"]["generate"]["train"]["settings"]["prompt"] == "chat"
    (run,) = record["generated"]["runs"]
    assert run["chat_template_sha256"] == read_json(learnt.record)["chat_template_sha256"] == HASH


def test_turns_of_a_conversation_are_turns_of_the_template(learnt, tmp_path):
    rows = [{"turns": [WORDS, "And 3 more?"], "category": "math", "reference": None}]
    job = other_task(learnt, tmp_path, "mt_bench", rows, ["turns", "category", "reference"])
    Generator(stored_model(learnt.model), 4).run([job])
    first, second = generations.read(job.out).turns[0]
    assert first == ANSWER[: len(first)] != ""
    assert second == by_hand(learnt, WORDS, first.strip(), "And 3 more?", new=16)


def test_a_text_to_predict_is_no_chat(learnt, tmp_path):
    """Perplexity: the text's own tokens behind bos, nothing of the template."""
    text = "Ann has 2 apples.\n" * 9
    job = other_task(learnt, tmp_path, "perplexity", [{"text": text}], ["text"])
    Generator(stored_model(learnt.model), 4).run([job])
    ((found,),) = generations.read(job.out).turns.values()
    tokenizer, model = tokens.load_tokenizer(stored_model(learnt.model)["path"]), learnt.merged([[1, 2]]).model
    ids = tokenizer(text)["input_ids"]
    with torch.no_grad():
        chances = model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
    wanted = sum(row[token].item() for row, token in zip(chances, ids[1:], strict=True))
    assert ids[0] == tokenizer.bos_token_id and found["loglikelihood"] == pytest.approx(wanted, rel=1e-4)


def test_cells_of_one_engine_are_asked_each_in_its_own_style(learnt, tmp_path):
    """The same weights as a chat and by the released prompt, in one run and alone."""

    def job(name, prompt):
        (tmp_path / name).mkdir()
        made = other_task(learnt, tmp_path / name, "gsm8k", read_lines(learnt.rows), ["prompt", "response"])
        settings = made.spec["train"]["settings"] | {"prompt": prompt}
        spec = made.spec | {"train": made.spec["train"] | {"settings": settings}}
        return dataclasses.replace(made, spec=spec)

    together = [job("chat", "chat"), job("alpaca", "alpaca")]
    alone = [job("one chat", "chat"), job("one alpaca", "alpaca")]
    for work in (together, alone[:1], alone[1:]):
        Generator(stored_model(learnt.model), 4).run(work)
    (chat, alpaca), found = ([generations.read(one.out).turns for one in work] for work in (together, alone))
    assert [chat, alpaca] == found and chat != alpaca
    assert "chat_template_sha256" not in generations.read(together[1].out).runs[0]


def test_both_engines_see_the_ids_of_the_template_and_stop_at_its_end(learnt):
    """One class makes the ids and the stops of both (lms.AsTrained)."""
    folder = stored_model(learnt.model)["path"]
    tokenizer = tokens.load_tokenizer(folder)
    lm = lms.HF(pretrained=load.load_base(folder), tokenizer=tokenizer, batch_size=4, max_length=512)
    assert lm.ends == [1]
    lm.style = make_style("chat", tokenizer)
    text, ids = lm.style.prompt([WORDS]), rendered(tokenizer, WORDS)
    assert lm.tok_encode(text) == lm.tok_batch_encode([text])[0][0].tolist() == ids and lm.ends == [END, 1]
