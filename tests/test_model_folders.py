"""Model folders that are damaged, or that would run code or name an attention: one message, and nothing is run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from damage import edit, replace, rewrite, shards
from stage import LLAMA, says

from pissa_repro.model import checkpoint
from pissa_repro.model.load import load_base, window
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.sources.fetched import fetch_model

INDEX = "model.safetensors.index.json"
DEEP = '{"a":' + 100_000 * "[" + 100_000 * "]" + "}"


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of the tiny model to damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def first(**changes):
    """Change the entry of the first tensor of a header."""

    def change(header):
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        name = min(entries, key=lambda n: entries[n]["data_offsets"])
        return header | {name: entries[name] | changes}

    return change


HEADERS = {  # lm_head.weight, (300, 64) in float32, takes the bytes 0 to 76800
    "overlap": (
        first(data_offsets=[0, 76_804], shape=[19_201]),
        "begins at byte 76800, the tensor before ends at 76804",
    ),
    "gap": (first(data_offsets=[4, 76_800], shape=[19_199]), "begins at byte 4"),
    "negative": (first(data_offsets=[-4, 76_796]), "no natural number"),
    "backwards": (first(data_offsets=[76_800, 0]), "does not take -76800 bytes"),
    "no number": (first(data_offsets=["0", "76800"]), "no natural number"),
    "three": (first(data_offsets=[0, 1, 2]), "damaged safetensors header"),
    "shape": (first(shape=[300, 65]), "(300, 65) in F32 does not take 76800 bytes"),
    "negative shape": (first(shape=[-300, -64]), "no natural number"),
    "huge": (first(shape=[10**30, 10**30]), "does not take"),
    "dtype": (first(dtype="F64"), "in F64 does not take 76800 bytes"),
    "unknown": (first(dtype="F31"), "unknown dtype 'F31'"),
    "no entry": (lambda header: header | {"more.weight": None}, "damaged safetensors header"),
    "metadata": (lambda header: header | {"__metadata__": {"format": 1}}, "metadata"),
    "no tensor": (lambda header: {}, "no tensor"),
    "list": (lambda header: [header], "does not begin with '{'"),
    "deep": (lambda header: DEEP.encode(), "recursion"),
    "no text": (lambda header: b'{"\xff": 1}', "utf-8"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_lies_is_refused_before_a_tensor_is_read(folder, kind, monkeypatch):
    """Case 17: safetensors stops with an error of its own when a tensor is read, or reads bytes of another one."""
    change, words = HEADERS[kind]
    rewrite(folder / "model.safetensors", change)
    monkeypatch.setattr("safetensors.safe_open", None)
    says(lambda: fetch_model({"path": str(folder)}), str(folder / "model.safetensors"), "damaged", "Fetch", words)


JSON = {
    "deep": (DEEP, "recursion"),
    "mark": ("\ufeff{}", "BOM"),
    "overflow": ('{"model_type": "llama", "rope_theta": 1e400}', "'rope_theta' is no finite number"),
    "nan": ('{"model_type": "llama", "list": [1, NaN]}', "'list' is not a number"),
    "digits": ('{"model_type": ' + 5000 * "1" + "}", "digits"),
    "list": ("[]", "list, not an object"),
    "null": ("null", "not an object"),
    "empty": ("", "damaged"),
}


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize("name", ["config.json", INDEX, "generation_config.json"])
def test_json_that_is_none_is_named(folder, kind, name):
    """Case 17: a RecursionError, or an infinite number that reached the model."""
    text, words = JSON[kind]
    if name == INDEX:
        shards(folder)
    (folder / name).write_text(text, encoding="utf-8")
    says(lambda: load_base(folder), str(folder / name), "damaged", "Fetch the model again", words)


def test_json_of_other_bytes_is_named(folder):
    """Case 17: a config.json that is not UTF-8."""
    (folder / "config.json").write_bytes('{"é": 1}'.encode("latin-1"))
    says(lambda: fetch_model({"path": str(folder)}), "config.json", "damaged", "utf-8")


def test_an_infinite_limit_in_a_list_may_stay(folder):
    """Case 17: Mamba's time_step_limit is [0, Infinity]."""
    edit(folder / "config.json", time_step_limit=[0.0, float("inf")])
    assert fetch_model({"path": str(folder)})


@pytest.mark.parametrize(
    "file", ["../model.safetensors", "/etc/passwd", "sub/a.safetensors", "config.json", "", None, 3, []]
)
def test_an_index_names_safetensors_of_its_folder_only(folder, file):
    """Case 17: '../' read another folder; what is no text was a traceback."""
    shutil.copy(folder / "model.safetensors", folder.parent)
    (folder / "sub").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "sub" / "a.safetensors")
    shards(folder)
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    index["weight_map"]["lm_head.weight"] = file
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    says(lambda: fetch_model({"path": str(folder)}), INDEX, "lm_head.weight", repr(file), "no safetensors file of this")


@pytest.mark.parametrize("change", [{"weight_map": []}, {"weight_map": {}}, {"metadata": None}, {"metadata": [1]}])
def test_an_index_that_transformers_cannot_read_is_refused(folder, change):
    """Case 17: without metadata it raised a KeyError after init."""
    shards(folder)
    edit(folder / INDEX, **change)
    says(lambda: fetch_model({"path": str(folder)}), INDEX, "damaged")


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", INDEX, "tokenizer.json", "generation_config.json"]
)
def test_what_is_no_file_is_refused_and_never_opened(folder, name, kind):
    """Case 17: a pipe in place of a tokenizer never ended."""
    replace(folder / name, kind)
    says(
        lambda: load_base(folder) if name[0] == "g" else fetch_model({"path": str(folder)}),
        str(folder / name),
        "no file",
    )


def test_links_to_files_are_a_model(folder, tiny_model, tmp_path):
    """Case 17: a snapshot in the hub's cache is a folder of links, some with other names behind them."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        (linked / path.name).symlink_to(path.rename(tmp_path / str(number)))
    assert fetch_model({"path": str(linked)})["fingerprint"] == fetch_model({"path": str(tiny_model)})["fingerprint"]
    assert len(list(checkpoint.targets(linked, LLAMA))) == 14 and load_base(linked)


PATHS = [
    ("model/config.json", "is a file"),
    ("a\0b", "null byte"),
    ("x" * 300, "too long"),
    ("circle", "no such folder"),
]


@pytest.mark.parametrize(("path", "words"), PATHS)
def test_a_path_that_cannot_be_a_folder(folder, path, words, tmp_path, monkeypatch):
    """Case 17: an OSError or a ValueError from below."""
    monkeypatch.chdir(tmp_path)
    Path("circle").symlink_to("circle")
    says(lambda: fetch_model({"path": path}), "config.models", path, words)


@pytest.mark.parametrize("key", ["num_hidden_layers", "num_labels"])
@pytest.mark.parametrize("count", [10**9, 10**4000])
def test_a_count_beyond_all_weights_is_refused_before_it_is_built(folder, key, count):
    """Case 17: transformers would make that many modules or list entries first."""
    edit(folder / "config.json", **{key: count})
    says(lambda: load_base(folder), str(folder), key, "config.json", "21 tensors")


@pytest.mark.parametrize("limit", [-1, 0.5, "8", True])
def test_a_window_that_is_no_number_of_tokens_is_refused(tiny_model, limit):
    """Case 17: a negative window cut every example to nothing."""
    model = load_base(tiny_model)
    assert window(model.config, 9) == 512
    object.__setattr__(model.config, "max_position_embeddings", limit)
    says(lambda: window(model.config, 9), "max_position_embeddings", repr(limit))


@pytest.fixture
def asked(monkeypatch):
    """What a terminal was asked; it says yes."""
    questions = []
    monkeypatch.setattr("builtins.input", lambda *question: questions.append(question) or "y")
    return questions


@pytest.fixture
def coded(folder):
    """The folder with code of its own for config, model and tokenizer, which leaves a trace when it is run."""
    for name in ("own", "tokenization_own", "modeling_own"):
        (folder / f"{name}.py").write_text(
            f"open({str(folder / 'ran')!r}, 'w')\nraise SystemExit('this ran')\n", encoding="utf-8"
        )
    edit(folder / "config.json", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "modeling_own.Own"})
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_own.Own", None]})
    return folder


def test_code_is_passed_over_where_transformers_has_the_class(coded, asked, tiny_model):
    """Case 17: many folders on the hub bring code for a class that transformers has had since."""
    assert load_tokenizer(coded)("a b c")["input_ids"] == load_tokenizer(tiny_model)("a b c")["input_ids"]
    assert torch.equal(load_base(coded).lm_head.weight, load_base(tiny_model).lm_head.weight)
    assert asked == [] and not (coded / "ran").exists()


def test_code_that_would_be_needed_is_neither_run_nor_asked_about(coded, asked):
    """Case 17: a tokenizer_config.json with auto_map asked y/N on stdin, and ran its code on y."""
    edit(coded / "config.json", model_type="own")
    says(lambda: load_base(coded), str(coded), "model", "custom code", "never run here")
    edit(coded / "tokenizer_config.json", tokenizer_class="Own")
    says(lambda: load_tokenizer(coded), str(coded), "tokenizer", "custom code", "never run here")
    assert asked == [] and not (coded / "ran").exists()


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "_experts_implementation"])
@pytest.mark.parametrize("value", ["eager", "flash_attention_2", "owner/kernel"])
def test_the_attention_of_a_config_is_not_followed(folder, key, value, tiny_model):
    """Case 17: a config.json chose it, even one to be fetched from the hub."""
    edit(folder / "config.json", **{key: value, "torch_dtype": "float16", "_name_or_path": "/elsewhere"})
    model = load_base(folder)
    assert model.config._attn_implementation == load_base(tiny_model).config._attn_implementation == "sdpa"
    assert model.config._experts_implementation == load_base(tiny_model).config._experts_implementation
    assert model.dtype == torch.float32 and model.config.name_or_path == str(folder)
