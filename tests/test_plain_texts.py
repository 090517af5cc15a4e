"""Training on plain texts, and on prompts too: what has labels, what a config may say, and what the records say."""

import json

import pytest
import torch
from helpers import Run, config
from stage import says
from tiny import ROWS, byte_tokenizer

from pissa_repro.model.load import load_base
from pissa_repro.plan import admission
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime.record import canonical, write_lines
from pissa_repro.sources.rows import select
from pissa_repro.training.examples import tokenize

TEXTS = [f"{prompt} {response}" for prompt, response in ROWS]
TEXT = {"text": "text"}


@pytest.fixture
def texts(tmp_path):
    """The fetched rows of plain texts."""
    write_lines(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS])
    return tmp_path / "texts.jsonl"


@pytest.mark.parametrize("template", ["<s> $A", "$A", "<s> $A </s>"])
def test_every_token_of_a_text_has_a_label_and_eos_ends_it(template):
    tokenizer = byte_tokenizer(template)
    examples, lengths = tokenize([{"text": text} for text in TEXTS], tokenizer, 512)
    front = [0] if template.startswith("<s>") else []
    wanted = [[*front, *tokenizer(text, add_special_tokens=False)["input_ids"], 1] for text in TEXTS]
    assert [example["input_ids"] for example in examples] == wanted == [example["labels"] for example in examples]
    assert lengths.tokens == lengths.response_tokens == sum(map(len, wanted))
    assert (lengths.examples, lengths.truncated, lengths.dropped, lengths.merged) == (12, 0, 0, 0)


def test_a_text_is_cut_at_the_window_and_an_empty_one_is_dropped():
    tokenizer = byte_tokenizer("$A")
    (whole,), _ = tokenize([{"text": TEXTS[0]}], tokenizer, 512)
    for room in (2, len(whole["labels"]) - 1, len(whole["labels"])):
        (cut,), lengths = tokenize([{"text": TEXTS[0]}, {"text": ""}], tokenizer, room)
        assert cut["labels"] == cut["input_ids"] == whole["input_ids"][:room]
        assert (lengths.truncated, lengths.dropped) == (room < len(whole["labels"]), 1)
    says(lambda: tokenize([{"text": ""}], tokenizer, 512), "every text is empty", "nothing to train on")


def test_with_the_loss_on_all_a_prompt_has_labels_too():
    """And one that fills the window is cut, where it is dropped else."""
    rows = [{"prompt": prompt, "response": response} for prompt, response in ROWS]
    usual, everything = (tokenize(rows, byte_tokenizer(), 256, loss=loss) for loss in ("response", "all"))
    assert [e["input_ids"] for e in usual[0]] == [e["labels"] for e in everything[0]] == [
        e["input_ids"] for e in everything[0]
    ]  # fmt: skip
    assert everything[1].response_tokens == everything[1].tokens == usual[1].tokens > usual[1].response_tokens
    (cut,), lengths = tokenize(rows[:1], byte_tokenizer(), 8, loss="all")
    assert len(cut["labels"]) == 8 and (lengths.truncated, lengths.dropped) == (1, 0)


def specs(folder, **changes):
    """The training's spec and what is admitted, of a config with these changes."""
    sweep = Sweep(config(folder, folder / "rows.jsonl", "pissa", "none", **changes))
    (cell,) = sweep.cells.values()
    return sweep.train_spec(cell), admission.spec(sweep, "sweep", "tiny")


def test_a_spec_names_prompt_and_loss_where_they_are_not_the_usual_ones(tmp_path):
    """So that what was trained before there was a choice is still what its spec says."""
    usual = specs(tmp_path)
    assert usual == specs(tmp_path, prompt="alpaca", loss="response")
    assert not any(key in canonical(spec) for spec in usual for key in ('"prompt"', '"loss"', '"prompts"'))
    train, admitted = specs(tmp_path, prompt="chat", loss="all")
    assert train == usual[0] | {"settings": usual[0]["settings"] | {"prompt": "chat", "loss": "all"}}
    assert admitted["training"] == [usual[1]["training"][0] | {"prompt": "chat", "loss": "all"}]
    assert admitted["tasks"]["task"] == usual[1]["tasks"]["task"] | {"prompts": ["chat"]}
    assert specs(tmp_path, fields=TEXT)[0]["settings"]["loss"] == "all"


def test_an_override_gives_some_cells_another_prompt(tmp_path):
    raw = config(tmp_path, tmp_path / "rows.jsonl", "pissa", "none")
    raw["sweep"]["cells"].append({"method": "lora", "quant": "none"})
    raw["overrides"] = [{"where": {"method": "lora"}, "set": {"prompt": "plain"}, "why": "to see what it does"}]
    sweep = Sweep(raw)
    assert [sweep.train_spec(cell)["settings"].get("prompt") for cell in sweep.cells.values()] == [None, "plain"]
    assert admission.spec(sweep, "sweep", "tiny")["tasks"]["task"]["prompts"] == ["alpaca", "plain"]


WRONG = {
    "a mixture": ({"fields": {"prompt": "p", "response": "r", "text": "t"}}, ["'text' and 'prompt'", "rows"]),
    "half of one": ({"fields": {"response": "r", "text": "t"}}, ["'text' and 'response'"]),
    "no text": ({"fields": {"prompt": "p"}}, ["no 'response', which training reads"]),
    "an unknown prompt": ({"prompt": "alpacca"}, ["config.train.prompt", "alpacca", "chat", "plain"]),
    "an unknown loss": ({"loss": "prompt"}, ["config.train.loss", "'prompt'", "response", "all"]),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_a_config_that_makes_no_sense_ends_the_dry_run(tmp_path, changes, words):
    says(lambda: specs(tmp_path, **changes), "config.", *words)


def test_a_share_of_texts_is_drawn_by_the_text():
    rows, place = [{"text": f"text {n}"} for n in range(200)], "here"
    share = {"share": 0.5, "seed": 0}
    inside, outside = (
        select(rows, {"fields": TEXT, "parts": [share | more]}, place) for more in ({}, {"rest": True})
    )  # fmt: skip
    assert 60 < len(inside) < 140 and not {r["text"] for r in inside} & {r["text"] for r in outside}
    assert len(inside) + len(outside) == 200
    assert select(rows[::-1], {"fields": TEXT, "parts": [share]}, place) == inside[::-1]


def test_the_loss_is_the_mean_over_all_tokens_and_a_resumed_training_has_the_same_bits(tmp_path, tiny_model, texts):
    """The first step's, by hand on the untouched model; then a failure behind a checkpoint, and on."""

    def run(name, **changes):
        made = Run(tmp_path / name, tiny_model, texts, "pissa", fields=TEXT, batch_size=12, **changes)
        made.init()
        return made

    whole, broken = (run(name, steps=4) for name in ("whole", "broken"))
    record = whole.train("--checkpoint-steps", "2")
    assert record["spec"]["settings"]["loss"] == "all" and "chat_template_sha256" not in record
    assert record["lengths"]["response_tokens"] == record["lengths"]["tokens"]
    model, nats, count = load_base(tiny_model, device="cpu").eval(), 0.0, 0
    for example in whole.prepare().examples:
        ids = torch.tensor([example["input_ids"]])
        with torch.no_grad():
            chances = model(ids).logits[0, :-1].log_softmax(-1)
        nats -= chances.gather(1, ids[0, 1:, None]).sum().item()
        count += ids.shape[1] - 1
    assert whole.history()[0].loss == pytest.approx(nats / count, rel=1e-4)
    broken.steps.mkdir()  # the CSV of the steps cannot be written
    with pytest.raises(OSError):
        broken.train("--checkpoint-steps", "2")
    broken.steps.rmdir()
    assert broken.train("--checkpoint-steps", "2")["resumed_from"] == 2
    assert broken.steps.read_text(encoding="utf-8") == whole.steps.read_text(encoding="utf-8")
    assert broken.record.exists() and broken.train_argv()[1] == whole.train_argv()[1]
    files = [sorted(path.read_bytes() for path in made.trained.glob("*.safetensors")) for made in (whole, broken)]
    assert files[0] == files[1] != []


def test_texts_are_scored_and_nobody_counts_prompts_among_them(tmp_path, tiny_model, texts, caplog):
    """Texts that were trained on are counted among scored texts."""
    caplog.set_level("INFO")
    run = Run(tmp_path / "cell", tiny_model, texts, "pissa", fields=TEXT, steps=3, learning_rate=5e-3)
    run.init()
    run.train()
    prompts = tmp_path / "prompts.jsonl"
    write_lines(prompts, [json.loads('{"prompt": "a", "response": "b"}')])
    scored = run.evaluate("--trained-on", str(texts))
    assert scored["metrics"]["paper"]["n"] == scored["seen_in_training"] == 12
    assert run.evaluate("--trained-on", str(prompts))["seen_in_training"] is None
    assert "not counted" in caplog.text and str(prompts) in caplog.text
