"""Case 1: answers end at the eos that training targets end with, whatever the folder names and whoever is beside."""

import random
from types import SimpleNamespace

import pytest
from ending import EOS, NAMED, TEXTS, answers, by_hand, edit, ending_model, engine, naming, unmerged

from pissa_repro.model.tokens import load_tokenizer, prompt_ids
from pissa_repro.runtime.record import read_json
from pissa_repro.scoring import engines

LONG, SHORT = 64, 32
KINDS = ("llama", "gpt2")


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_model, tiny_gpt2):
    """A Llama and a GPT-2 whose answers end after few or many tokens."""
    folder = tmp_path_factory.mktemp("ending")
    sources = {"llama": tiny_model, "gpt2": tiny_gpt2["saved"]}
    return {kind: ending_model(source, folder / kind, kind) for kind, source in sources.items()}


@pytest.fixture(scope="module")
def wanted(models):
    """The answers' tokens by a plain loop, eos included."""
    return {kind: by_hand(folder, TEXTS[kind], LONG) for kind, folder in models.items()}


def seen(ids, mask):
    """The tokens of each row that are not masked."""
    return [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]


def text_of(folder, ids):
    return load_tokenizer(folder).decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize(("kind", "named"), [*(("llama", named) for named in NAMED), ("gpt2", "another")])
def test_an_answer_ends_at_the_tokenizers_eos(models, wanted, tmp_path, kind, named):
    """Case 1: one batch holds short and long answers; config.json and generation_config.json name any eos."""
    ended = [ids[-1] == EOS for ids in wanted[kind]]
    assert any(ended) and not all(ended) and len({len(ids) for ids in wanted[kind]}) > 4
    lm = engine(naming(models[kind], tmp_path / "model", **NAMED[named]), len(TEXTS[kind]))
    assert answers(lm, TEXTS[kind], LONG) == [text_of(models[kind], ids) for ids in wanted[kind]]


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_does_not_depend_on_its_neighbours(models, wanted, tmp_path, kind):
    """Case 1: batches of 1, 3 and 8, in any order, and with room for fewer or more tokens."""
    folder = naming(models[kind], tmp_path / "model", **NAMED["a list"])
    texts = [text_of(folder, ids) for ids in wanted[kind]]
    short = [text_of(folder, ids[:SHORT]) for ids in wanted[kind]]
    numbers = list(range(len(texts)))
    for batch, new, expected in ((1, LONG, texts), (3, LONG, texts), (8, LONG, texts), (8, SHORT, short)):
        order = random.Random(batch).sample(numbers, len(numbers))
        found = answers(engine(folder, batch), [TEXTS[kind][n] for n in order], new)
        assert dict(zip(order, found, strict=True)) == dict(enumerate(expected)), (batch, new)


def test_a_prompt_is_cut_alone(models):
    """Case 1: in a small window a long prompt loses its own beginning, and nobody else's changes."""
    folder, texts, room = models["llama"], TEXTS["llama"], 20
    prompts = prompt_ids(load_tokenizer(folder), texts)
    assert min(map(len, prompts)) < room < max(map(len, prompts))
    together, alone = (engine(folder, batch, length=room + LONG) for batch in (8, 1))
    ids, mask = together.tok_batch_encode(texts, left_truncate_len=room)
    assert seen(ids, mask) == [row[-room:] for row in prompts]
    assert answers(together, texts, LONG) == answers(alone, texts, LONG)


def test_a_text_that_begins_with_bos_changes_no_neighbours_ids(models):
    """Case 1: lm-eval left bos out of a whole batch when its first text began with one."""
    tokenizer, lm = load_tokenizer(models["llama"]), engine(models["llama"], 4)
    texts = ["<s>What is 2 + 2?", "What is 3 + 3?"]
    assert seen(*lm.tok_batch_encode(texts)) == tokenizer(texts)["input_ids"]
    assert [lm.tok_encode(text) for text in texts] == tokenizer(texts)["input_ids"]


@pytest.mark.parametrize("pad", ["</s>", "A"])
def test_pad_is_no_text(models, tmp_path, pad):
    """Case 1: any token may pad, also one that stands for a text."""
    folder = naming(models["llama"], tmp_path / "model", **NAMED["another"])
    edit(folder / "tokenizer_config.json", pad_token=pad)
    assert load_tokenizer(folder).pad_token_id < 300
    texts = TEXTS["llama"][:8]
    assert answers(engine(folder, 8), texts, SHORT) == [text_of(folder, ids) for ids in by_hand(folder, texts, SHORT)]


@pytest.mark.parametrize("named", ["another", "none", "a list"])
def test_the_folder_that_vllm_reads_names_the_tokenizers_tokens(models, tmp_path, monkeypatch, named):
    """Case 1: what the engine is launched on, without the engine."""
    folder = naming(models["llama"], tmp_path / "model", **NAMED[named])
    read = []

    def launch(path, options):
        read.extend(read_json(f"{path}/{name}.json") for name in ("config", "generation_config"))
        return SimpleNamespace()

    monkeypatch.setattr(engines, "_launch", launch)
    monkeypatch.setattr(engines.VLLM, "_logprobs", lambda *args: (0.0, 1.0))
    engines.VLLM(load_tokenizer(folder), engines.Options("float32", 8, 64)).take(unmerged(folder), [])
    assert len(read) == 2
    for config in read:
        assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (0, EOS, EOS)
