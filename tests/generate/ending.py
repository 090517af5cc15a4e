"""Models whose answers end after few or many tokens, in folders that name any eos; and what an engine answers."""

import json
import shutil
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from safetensors.torch import load_file, save_file
from tiny import ROWS

from pissa_repro.model.checks import logits
from pissa_repro.model.load import load_base
from pissa_repro.model.merged import Merged
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.scoring.engines import HF, Options

EOS = 1  # of the byte tokenizer
HEADS = {"llama": "lm_head.weight", "gpt2": "transformer.wte.weight"}
SAID = {"llama": 42, "gpt2": 12}  # tokens that these models say early in some answers and late or never in others
TEXTS = {  # of many lengths; their answers end after 3 to 61 tokens, and some not within 64
    "llama": [(prompt + " " + response)[: 12 + 7 * n] for n, (prompt, response) in enumerate(ROWS)],
    "gpt2": [(prompt * (1 + n % 5))[: 20 + 31 * n] for n, (prompt, _) in enumerate(ROWS)],
}
# What model folders say of the eos: another's token, nothing, a list with and without the tokenizer's.
NAMED = {
    "the tokenizer's": {"config": 1, "generation": 1},
    "another": {"config": 5, "generation": 5},
    "none": {"config": None, "generation": None},
    "a list": {"config": [5, 280], "generation": [280, 1]},
    "no generation config": {"config": 105, "generation": "no file"},
    "two": {"config": 1, "generation": 105},
}


def ending_model(source: Path, folder: Path, kind: str) -> Path:
    """A copy of a tiny model that says eos wherever it said the token SAID."""
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    weights[HEADS[kind]][EOS] = 1.05 * weights[HEADS[kind]][SAID[kind]]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def naming(source: Path, folder: Path, config, generation) -> Path:
    """A copy of a model whose config.json and generation_config.json name these as eos, and odd pads."""
    shutil.copytree(source, folder)
    edit(folder / "config.json", eos_token_id=config, pad_token_id=7)
    if generation == "no file":
        (folder / "generation_config.json").unlink(missing_ok=True)
    else:
        edit(folder / "generation_config.json", eos_token_id=generation, pad_token_id=280)
    return folder


def edit(path: Path, **changes) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(content | changes), encoding="utf-8")


def engine(folder: Path, batch: int, length: int = 512):
    """The HF engine's lm-eval model of the folder's weights, as the generate stage makes it."""
    return HF(load_tokenizer(folder), Options("float32", batch, length)).take(unmerged(folder), [])[0]


def unmerged(folder: Path) -> Merged:
    """A folder's own weights in the place of a merged cell."""
    nothing = torch.empty(0)
    return Merged(load_base(folder, device="cpu").eval(), {}, nothing, nothing)


def answers(lm, texts: list[str], new: int) -> list[str]:
    """What an lm-eval model says to each text in at most `new` tokens."""
    asked = {"until": [], "do_sample": False, "max_gen_toks": new}
    requests = [Instance("generate_until", {}, (text, dict(asked)), n) for n, text in enumerate(texts)]
    return lm.generate_until(requests, disable_tqdm=True)


def by_hand(folder: Path, texts: list[str], new: int) -> list[list[int]]:
    """The tokens of each greedy answer, its eos included: a plain loop over one text at a time."""
    model, tokenizer = load_base(folder, device="cpu").eval(), load_tokenizer(folder)
    made = []
    for text in texts:
        ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        start = len(ids)
        while len(ids) - start < new and EOS not in ids[start:]:
            ids.append(int(logits(model, [ids])[0].argmax()))
        made.append(ids[start:])
    return made
