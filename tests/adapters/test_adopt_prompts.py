"""An adapter of somebody else is asked in the style of the sweep's cells, or in one of its own; and that is told."""

import copy

import pytest
from chats import TEMPLATE, chat_model, chat_tokenizer
from helpers import config, scored_rows
from peer import changed, train
from stage import says
from taken import Taken

from pissa_repro.plan import admission
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results import conditions, scored


@pytest.fixture(scope="module")
def chat(tiny_model, tmp_path_factory):
    """A model with a chat template, and a LoRA of it."""
    folder = tmp_path_factory.mktemp("chat")
    model = chat_model(tiny_model, folder / "model")
    return model, train(model, folder / "theirs", rate=1e-2).adapter


def planned(rows, style, **given):
    """A sweep of a cell in a style, and an adopted adapter with these keys."""
    written = copy.deepcopy(config("model", rows, "lora", "none"))
    written["train"]["prompt"] = style
    written["adopted"] = {"theirs": {"adapter": "theirs", "model": "tiny", "dataset": "rows", **given}}
    written["sweep"]["adopted"] = ["theirs"]
    return Sweep(written)


@pytest.mark.parametrize(
    ("style", "given", "asked"),
    [
        ("alpaca", {}, None),
        ("chat", {}, "chat"),
        ("chat", {"prompt": "alpaca"}, None),
        ("alpaca", {"prompt": "plain"}, "plain"),
    ],
)
def test_it_is_asked_as_the_sweep_is_or_as_it_says(tiny_rows, style, given, asked):
    """The released prompt is not written, so that a spec from before stays; every style is admitted."""
    sweep = planned(tiny_rows, style, **given)
    (one,) = sweep.adopted.values()
    assert sweep.trained_spec(one).get("prompt") == asked
    (task,) = admission.spec(sweep, "sweep", "tiny")["tasks"].values()
    assert set(task.get("prompts", ["alpaca"])) == {style, asked or "alpaca"}


def test_a_chat_is_generated_from_the_template_of_the_base(chat, tmp_path):
    (model, adapter), rows, texts = chat, scored_rows(tmp_path, 4), []
    for style in ("chat", "plain"):
        taken = Taken(tmp_path / style, model, rows, adapter=adapter, prompt=style)
        taken.adopt()
        taken.evaluate()
        texts.append(scored.read(taken.files.score("task"), "paper"))
    differ = conditions.differences([(texts[0], texts[1])])
    assert differ["prompt"] == ["chat", "plain"] and not any(name.startswith("adopt.") for name in differ)
    generated = [[row["generated"] for row in one.rows] for one in texts]
    assert generated[0] != generated[1] and "template" in str(texts[0].record["generated"])


def test_a_template_beside_the_adapter_must_make_the_same_prompt(chat, tiny_rows, tmp_path):
    """Only where it is asked by a template; a tokenizer without one says nothing of chats."""
    model, adapter = chat
    other = changed(adapter, tmp_path / "other")
    chat_tokenizer(TEMPLATE.replace("message.content + '<", "message.content + ' <")).save_pretrained(other)
    says(Taken(tmp_path / "asked", model, tiny_rows, adapter=other, prompt="chat").adopt, "the chat template beside")
    assert Taken(tmp_path / "plain", model, tiny_rows, adapter=other, prompt="plain").adopt()["notes"]
    none = changed(adapter, tmp_path / "none")
    chat_tokenizer(None).save_pretrained(none)
    assert Taken(tmp_path / "none taken", model, tiny_rows, adapter=none, prompt="chat").adopt()["notes"]


def test_a_base_without_a_template_is_asked_in_no_chat(tiny_model, chat, tiny_rows, tmp_path):
    theirs = changed(chat[1], tmp_path / "theirs")
    chat_tokenizer().save_pretrained(theirs)
    says(Taken(tmp_path / "taken", tiny_model, tiny_rows, adapter=theirs, prompt="chat").adopt, "has no chat template")
