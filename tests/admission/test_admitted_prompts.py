"""Rows of plain texts, and prompts of other styles, are checked before any work."""

from admitting import GOOD, admitted
from chats import chat_model
from stage import says


def test_texts_are_admitted_and_a_chat_only_where_the_tokenizer_has_one(tiny_model, tmp_path):
    texts = [{"text": text} for text in ("a b c", "d", "long " * 400)]
    found = admitted(
        tiny_model, tmp_path / "t", texts, fields={"text": "text"}, test=[{"text": "a b c"}], task="perplexity"
    )
    (rows,) = found["training"]
    assert (rows["loss"], rows["lengths"]["examples"], rows["lengths"]["truncated"]) == ("all", 3, 1)
    says(lambda: admitted(tiny_model, tmp_path / "n", prompt="chat"), "config.train.prompt", "no chat template")
    plain, chat = (
        admitted(chat_model(tiny_model, tmp_path / name), tmp_path / f"of {name}", GOOD, prompt=name)
        for name in ("plain", "chat")
    )
    assert chat["tasks"]["task"]["items"] == 3 and chat["tasks"]["task"]["longest"] > plain["tasks"]["task"]["longest"]
