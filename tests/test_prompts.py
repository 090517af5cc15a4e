"""Styles of prompts: the ids of a chat are the tokenizer's own, and a template that cannot be trained on is refused."""

import json

import pytest
from chats import END, TEMPLATE, chat_model, chat_tokenizer, rendered
from hypothesis import given
from hypothesis import strategies as st
from stage import says
from tiny import ROWS, byte_tokenizer

from pissa_repro.model.checkpoint import fingerprint
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.sources.prompt import PROMPT, make_style, written
from pissa_repro.training.examples import tokenize

DATA = [{"prompt": prompt, "response": response} for prompt, response in ROWS]
ODD = [{"prompt": "{braces} {{ jinja }}", "response": "<s> a </s> <|end|>\n"}, {"prompt": "", "response": "\n é 日本"}]


def texts_of(tokenizer, row, **changes):
    """The text of the prompt and of the target of the one example of a row."""
    ((example,), lengths) = tokenize([row], tokenizer, 512, **changes)
    ids, labels = example["input_ids"], example["labels"]
    head = labels.count(-100)
    assert labels == [-100] * head + ids[head:] and lengths.response_tokens == len(ids) - head
    return tokenizer.decode(ids[:head]), tokenizer.decode(ids[head:])


def test_plain_is_the_prompt_as_it_is():
    row = {"prompt": "1 + 1 =", "response": " 2"}
    assert texts_of(byte_tokenizer(), row, prompt="plain") == ("<s>1 + 1 =", " 2\n</s>")
    assert written("plain", ["a", "b", "c"], [" x\n", "y"]) == "a" + "x\n\nb" + "y\n\nc"


def test_the_released_prompt_is_what_none_names():
    assert tokenize(DATA, byte_tokenizer(), 512) == tokenize(DATA, byte_tokenizer(), 512, prompt="alpaca")
    assert written("alpaca", ["Why?"]) == PROMPT.format(instruction="Why?")


@pytest.mark.parametrize("row", [*DATA[:2], *ODD])
def test_a_chat_has_the_ids_of_transformers(row):
    """No second bos; prompt, whole conversation and later turns."""
    tokenizer = chat_tokenizer()
    style, words, answer = make_style("chat", tokenizer), row["prompt"], row["response"]
    head = rendered(tokenizer, words)
    assert style.ids([style.prompt([words])]) == [head]
    (example,), lengths = tokenize([row], tokenizer, 512, prompt="chat")
    assert example["input_ids"] == rendered(tokenizer, words, answer, asked=False)
    assert example["labels"] == [-100] * len(head) + example["input_ids"][len(head) :]
    assert (lengths.merged, lengths.truncated) == (0, 0)
    assert head[0] == tokenizer.bos_token_id and head[1] != tokenizer.bos_token_id
    turns = style.ids([style.prompt([words, "And?"], [f" {answer.strip()} \n"])])
    assert turns == [rendered(tokenizer, words, answer.strip(), "And?")]


PIECES = ["a", " ", "\n", "<s>", "</s>", "<|end|>", "<|user|>", "é", "{{", "%}", "日"]
WORDS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
TOKENIZER = chat_tokenizer()


@given(WORDS, WORDS)
def test_any_words_have_the_ids_of_transformers(words, answer):
    style = make_style("chat", TOKENIZER)
    assert style.ids(list(style.example(words, answer))) == [
        rendered(TOKENIZER, words), rendered(TOKENIZER, words, answer, asked=False),
    ]  # fmt: skip


ENDS = {  # a template, the target of the response "yes", and the ids that end an answer
    "a token of its own": (TEMPLATE, "yes<|end|>\n", [4, 1]),
    "eos": (TEMPLATE.replace("<|end|>", "</s>"), "yes</s>\n", [1]),
    "both": (TEMPLATE.replace("<|end|>", "<|end|></s>"), "yes<|end|></s>\n", [4, 1]),
    "text": (TEMPLATE.replace("<|end|>", "."), "yes.\n</s>", [1]),
    "nothing": (TEMPLATE.replace("<|end|>\n", ""), "yes</s>", [1]),
    "blank space is cut": (TEMPLATE.replace("message.content", "message.content | trim"), "yes<|end|>\n", [4, 1]),
}


@pytest.mark.parametrize(("template", "target", "ends"), ENDS.values(), ids=ENDS)
def test_a_target_ends_as_the_template_ends_a_message(template, target, ends):
    """eos follows only where the template writes no token there."""
    tokenizer = chat_tokenizer(template)
    assert tokenizer.convert_tokens_to_ids(END) == 4
    assert texts_of(tokenizer, {"prompt": "Is it?", "response": "yes"}, prompt="chat")[1] == target
    assert make_style("chat", tokenizer).ends == ends


REFUSED = {
    "none": (None, ["no chat template", "alpaca, plain", "chat_template.jinja"]),
    "several": ({"tool_use": TEMPLATE, "rag": TEMPLATE}, ["no chat template"]),
    "a thought in the prompt only": (TEMPLATE.replace("'<|assistant|>\n'", "'<|assistant|>\n<think>'"), ["<think>"]),
    "no answer": (TEMPLATE.replace("message.content", "messages[0].content"), ["leaves out"]),
    "an exception": (TEMPLATE + "{{ raise_exception('system first') }}", ["cannot be rendered", "system first"]),
    "a program": ("{{ messages.__class__.__mro__ }}", ["cannot be rendered", "SecurityError"]),
    "no jinja": ("{% for", ["cannot be rendered", "TemplateSyntaxError"]),
    "no such field": (TEMPLATE.replace("message.content", "message.text.words"), ["cannot be rendered", "text"]),
}  # fmt: skip


@pytest.mark.parametrize(("template", "words"), REFUSED.values(), ids=REFUSED)
def test_a_template_that_cannot_be_trained_on_is_refused(template, words):
    says(lambda: make_style("chat", chat_tokenizer(template)), "config.train.prompt: 'chat'", *words)


def test_of_several_templates_the_default_is_taken():
    tokenizer = chat_tokenizer({"default": TEMPLATE, "tool_use": "no"})
    assert make_style("chat", tokenizer).template_sha256 == make_style("chat", TOKENIZER).template_sha256


def test_a_template_that_names_the_day_names_the_same_one_every_day():
    """Llama 3.2's does: what was trained on one day would be asked otherwise on the next."""
    tokenizer = chat_tokenizer("Today is {{ strftime_now('%d %b %Y') }}." + TEMPLATE)
    assert make_style("chat", tokenizer).prompt(["Why?"]).startswith("Today is 26 Jul 2024.<s>")


def test_both_places_of_a_template_are_read_and_belong_to_the_model(tiny_model, tmp_path):
    """chat_template.jinja, and the key of tokenizer_config.json; an edit of either is another model."""
    file, key = (chat_model(tiny_model, tmp_path / name) for name in ("file", "key"))
    (key / "chat_template.jinja").unlink()
    settings = key / "tokenizer_config.json"
    config = json.loads(settings.read_text(encoding="utf-8")) | {"chat_template": TEMPLATE}
    settings.write_text(json.dumps(config), encoding="utf-8")
    one, two = (make_style("chat", load_tokenizer(folder)) for folder in (file, key))
    assert one.template_sha256 == two.template_sha256 and one.prompt(["Why?"]) == two.prompt(["Why?"])
    before = [fingerprint(folder) for folder in (file, key)]
    for path in (file / "chat_template.jinja", settings):
        path.write_text(path.read_text(encoding="utf-8").replace("<|end|>", "</s>"), encoding="utf-8")
    assert all(old != fingerprint(folder) for old, folder in zip(before, (file, key), strict=True))
