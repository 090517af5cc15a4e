"""Model folders whose tokenizer has a chat template."""

import shutil
from pathlib import Path

from tiny import byte_tokenizer

USER, ASSISTANT, END = MORE = ("<|user|>", "<|assistant|>", "<|end|>")
# As most are: the text begins with bos, every message ends with a token of its own that is not eos.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def chat_tokenizer(template=TEMPLATE):
    """The byte tokenizer with the template's tokens; it puts <s> in front of texts by itself."""
    tokenizer = byte_tokenizer(more=MORE)
    tokenizer.chat_template = template
    return tokenizer


def chat_model(source: Path, folder: Path, template=TEMPLATE) -> Path:
    """A copy of a tiny model with such a tokenizer, the template in chat_template.jinja."""
    shutil.copytree(source, folder)
    chat_tokenizer(template).save_pretrained(folder)
    return folder


def rendered(tokenizer, *texts, asked=True) -> list[int]:
    """The ids of a conversation, user first, by transformers."""
    turns = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    return tokenizer.apply_chat_template(turns, add_generation_prompt=asked, return_dict=False)
