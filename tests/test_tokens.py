"""Case 1: one function makes the ids of prompts, whatever a tokenizer puts around a text."""

import hashlib
import json
import shutil

import pytest
from stage import says
from tiny import ROWS, byte_tokenizer

from pissa_repro.embedded import problems
from pissa_repro.model.load import load_base, window
from pissa_repro.model.tokens import load_tokenizer, prompt_ids, text_ids
from pissa_repro.sources.fetched import EMBEDDED
from pissa_repro.sources.rows import select
from pissa_repro.training.examples import tokenize

TEXTS = [prompt for prompt, _ in ROWS] + ["", " a ", "ends with </s>", "<s>begins", "caf\u00e9 \u4e8c\n"]
# Of the embedded model's tokenizer on its first rows: ids and labels of training, ids of prompts.
EXAMPLES, PROMPTS = "5a74356d0146c284", "e3ce49032e2ebff1"


@pytest.mark.parametrize("behind", ["", " </s>", " </s> <s>"])
@pytest.mark.parametrize("front", ["", "<s> "])
def test_what_stands_behind_a_text_is_taken_off_and_what_stands_in_front_stays(front, behind):
    """Case 1: a text's own eos stays too."""
    plain, template = byte_tokenizer("$A"), byte_tokenizer(f"{front}$A{behind}")
    own = plain(TEXTS)["input_ids"]
    first = [{"<s>": 0, "</s>": 1}[token] for token in front.split()]
    assert prompt_ids(template, TEXTS) == [[*first, *ids] for ids in own]
    assert text_ids(template, TEXTS) == own and prompt_ids(template, []) == text_ids(template, []) == []


def test_a_tokenizer_that_changes_a_text_is_refused():
    """Case 1: what it adds cannot be told from the text."""
    tokenizer = byte_tokenizer("$A")
    other = byte_tokenizer("<s> $A")

    class Odd:
        name_or_path = "odd"

        def __call__(self, text, add_special_tokens=True):
            return (other if add_special_tokens else tokenizer)(text[::-1] if add_special_tokens else text)

    says(lambda: prompt_ids(Odd(), ["a"]), "odd", "special tokens")


def digest(value) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def test_the_embedded_models_ids_are_what_they_always_were():
    """Case 1: golden, from the code that had no such function."""
    source = {"fields": {"prompt": "question", "response": "answer"}, "response_format": "gsm8k"}
    rows = select(problems.generate("train", 60), source, "test")
    tokenizer = load_tokenizer(EMBEDDED)
    assert digest(tokenize(rows, tokenizer, 256)[0]) == EXAMPLES
    assert digest(prompt_ids(tokenizer, [row["prompt"] for row in rows])) == PROMPTS


@pytest.mark.parametrize("template", ["<s> $A", "<s> $A </s>", "$A </s>"])
def test_a_texts_perplexity_has_one_bos_in_front(tiny_model, template):
    """Case 1: the bos of the tokenizer's own, and its eos, were scored as text."""
    from pissa_repro.studies.gptq import perplexity

    texts, network = [prompt * 30 for prompt, _ in ROWS[:2]], load_base(tiny_model).eval()
    wanted, found = (perplexity(network, byte_tokenizer(one), texts) for one in ("$A", template))
    assert found == wanted


def test_the_window_is_where_neighbours_do_not_count():
    """Case 1: longrope turns a whole batch otherwise when one of its texts is longer than the first window."""
    from transformers import Phi3Config

    factors = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 256}
    long = Phi3Config(**sizes, rope_parameters=factors, original_max_position_embeddings=24)
    assert (window(long, 10**9), window(Phi3Config(**sizes), 10**9)) == (24, 256)


def test_a_damaged_tokenizer_is_one_message(tmp_path, tiny_model):
    """Case 1: before anything is trained, with the folder's name."""
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text('{"version": ', encoding="utf-8")
    says(lambda: load_tokenizer(tmp_path / "model"), str(tmp_path / "model"), "cannot load this tokenizer")
