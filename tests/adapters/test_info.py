"""pissa info: every kind of folder is named, its base is known or compared, and what is damaged is refused."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from commands import pissa
from helpers import Run
from peer import changed, convert, of_rank, plain, train
from stage import says

from pissa_repro.adapters import info
from pissa_repro.runtime.record import read_json, write_json


def shown(capsys, *words):
    """What the command prints."""
    capsys.readouterr()
    pissa("info", *words)
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def cells(tiny_model, tiny_rows, tmp_path_factory):
    """Trained cells: PiSSA, QPiSSA, full fine-tuning."""
    made = {}
    for method, quant in (("pissa", "none"), ("pissa", "nf4"), ("full", "none")):
        run = Run(tmp_path_factory.mktemp("run"), tiny_model, tiny_rows, method, quant, steps=1)
        run.init()
        run.train()
        made[f"{method}-{quant}"] = run
    return made


@pytest.fixture(scope="module")
def lora(pissa_trained, tmp_path_factory):
    """A converted adapter, which names a hub id and a revision."""
    folder = tmp_path_factory.mktemp("lora")
    convert(pissa_trained, folder / "out")
    return changed(folder / "out", folder / "named", base_model_name_or_path="lab/tiny", revision="a" * 40)


def test_an_adapter_of_peft(lora, tiny_model, capsys):
    text = shown(capsys, lora, "--base", tiny_model)
    words = (
        "A plain LoRA",
        "base: lab/tiny, revision aaaa",
        "rank 8; scaling 2; 6 modules: q_proj, v_proj, up_proj",
        "float32",
    )
    assert all(word in text for word in words), text
    assert 'from_pretrained("lab/tiny", revision="aaaa' in text and "--max-lora-rank 8" in text
    assert "the given base: it fits: it has all 6 modules" in text


def test_the_lines_of_code_are_right(lora, tiny_model, capsys):
    """They are run, with the base at hand in the place of its name."""
    text = shown(capsys, lora).replace('"lab/tiny", revision="' + "a" * 40 + '"', repr(str(tiny_model)))
    names: dict = {}
    exec(
        "\n".join(line[4:] for line in text.splitlines() if line.startswith(("    from", "    base", "    model"))),
        names,
    )
    assert names["model"].peft_config["default"].r == 8


@pytest.mark.parametrize("given", ["my lora", "."])
def test_the_lines_have_the_folder_as_it_was_given(lora, tiny_model, tmp_path, monkeypatch, given, capsys):
    folder = shutil.copytree(lora, tmp_path / "my lora")
    monkeypatch.chdir(folder if given == "." else tmp_path)
    line = next(line for line in shown(capsys, given).splitlines() if "vllm serve" in line)
    name, _, path = shlex.split(line)[-1].partition("=")
    assert name == "my lora" and Path(path).samefile(folder)
    text = shown(capsys, tiny_model)
    assert f'from_pretrained("{tiny_model}")' in text and f"vllm serve {tiny_model}" in text


def test_what_a_card_of_ours_says_is_read(pissa_trained, tmp_path, capsys):
    convert(pissa_trained, tmp_path / "lora")
    assert "It belongs on the untouched base model" in shown(capsys, tmp_path / "lora")
    pissa("convert", tmp_path / "lora", "--init", pissa_trained.init, "--out", tmp_path / "back", "--to", "pissa")
    text = shown(capsys, tmp_path / "back")
    assert "It belongs on the residual model" in text and "(residual)" in text


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("pissa", ["takes its start out", "runs again at each load", "pissa convert", "Convert it first"]),
        ("pissa_niter_4", ["takes its start out", "another start than in training"]),
        ("lora_ga", ["another start than in training"]),
        ("gaussian", ["A plain LoRA"]),
    ],
)
def test_an_adapter_whose_start_runs_again(pissa_trained, tmp_path, named, words, capsys):
    """Pitfalls 1 and 2."""
    text = shown(capsys, changed(pissa_trained.adapter, tmp_path / "a", init_lora_weights=named))
    assert all(word in text for word in words), text
    assert ("another start" in text) == any("another start" in word for word in words)


@pytest.mark.parametrize(
    ("rank", "words"), [(20, "--max-lora-rank 32"), (600, "its rank is 600, and vLLM serves up to 512")]
)
def test_the_rank_that_vllm_needs(pissa_trained, tmp_path, rank, words, capsys):
    """Pitfall 21."""
    assert f"vLLM: {words}" in shown(capsys, of_rank(rank, pissa_trained.adapter, tmp_path))


def test_a_residual_with_its_start(pissa_trained, tmp_path, tiny_model, lora, capsys):
    shutil.copytree(pissa_trained.residual, tmp_path / "released")
    assert "A whole model (LlamaForCausalLM)" in shown(capsys, tmp_path / "released")
    changed(pissa_trained.init, tmp_path / "released/pissa_init", init_lora_weights="pissa")
    text = shown(capsys, tmp_path / "released")
    assert "A residual model" in text and 'subfolder="pissa_init"' in text and "would decompose the residual" in text
    changed(pissa_trained.adapter, tmp_path / "released/trained")
    text = shown(capsys, tmp_path / "released")
    assert "pissa_init/ or trained/" in text and 'subfolder="trained")' in text
    says(lambda: pissa("info", lora, "--base", tmp_path / "released"), "is not the base", "pissa_init/", "untouched")


@pytest.mark.filterwarnings("ignore")
def test_dora_and_more_than_factors(tiny_model, pissa_trained, tmp_path, capsys):
    dora = train(tiny_model, tmp_path, steps=0, init_lora_weights=True, use_dora=True).adapter
    text = shown(capsys, dora, "--base", tiny_model)
    assert "the given base: it fits" in text
    assert "A LoRA with use_dora." in text and "vLLM: it is DoRA" in text and "--max-lora-rank" not in text
    key = "base_model.model.lm_head.weight"
    more = changed(
        pissa_trained.adapter, tmp_path / "more", lambda t: t | {key: torch.zeros(3, 3)}, modules_to_save=["lm_head"]
    )
    assert f"holds more than A and B: {key}" in shown(capsys, more)


def test_cells_and_their_parts(cells, tiny_model, capsys):
    run = cells["pissa-none"]
    for folder, words in {
        run.folder: ["A trained cell: method pissa, quantization none, rank 4", "a plain LoRA on the untouched base"],
        run.trained: ["a plain LoRA on the untouched base", "--max-lora-rank 8"],
        run.start: ["Initial factors of pissa, on W - s B0 A0", "rank 4"],
        run.factors: ["Trained factors of pissa", "rank 4"],
        cells["pissa-nf4"].folder: [
            "quantization nf4",
            "nothing to load here",
            "pissa export CELL",
            "on nf4(W - s B0 A0)",
        ],
        cells["full-none"].folder: ["A trained cell: method full", "A whole model", "AutoTokenizer"],
        tiny_model: ["A whole model (LlamaForCausalLM)", "float32"],
    }.items():
        text = shown(capsys, folder)
        assert all(word in text for word in words), text
    text = shown(capsys, run.folder, "--base", tiny_model)
    assert "the given base: right: its weights have the hash" in text
    assert "right: its weights" in shown(capsys, cells["pissa-nf4"].start, "--base", run.model)
    says(lambda: pissa("info", cells["full-none"].folder, "--base", tiny_model), "needs none")


def test_it_is_told_to_machines(cells, tiny_model, capsys):
    found = json.loads(shown(capsys, cells["pissa-none"].folder, "--base", tiny_model, "--json"))
    assert found["kind"] == "cell" and found["rank"] == 8 and found["given_base"]["right"] is True
    assert found["base"]["fingerprint"] == read_json(cells["pissa-none"].model)["fingerprint"]
    assert found["vllm"]["max_lora_rank"] == 8 and found["dtypes"] == ["float32"] and found["kind"] in info.KINDS
    assert found["parameters"] * 4 < found["bytes"] < found["parameters"] * 4 + 10_000


def test_a_base_of_other_weights_or_size_is_wrong(cells, lora, tiny_model, tiny_gpt2, tmp_path):
    other = plain(tiny_model)
    with torch.no_grad():
        other.model.norm.weight[0] += 1
    other.save_pretrained(tmp_path / "revised")
    for file in tiny_model.glob("token*"):
        shutil.copy(file, tmp_path / "revised")
    says(lambda: pissa("info", cells["pissa-none"].folder, "--base", tmp_path / "revised"), "another revision")
    other.bfloat16().save_pretrained(tmp_path / "rounded")
    says(lambda: pissa("info", cells["pissa-none"].start, "--base", tmp_path / "rounded"), "another revision")
    says(lambda: pissa("info", lora, "--base", tiny_gpt2["saved"]), "PEFT cannot put it on GPT2LMHeadModel")
    wide = changed(lora, tmp_path / "wide", lambda t: {
        k: v.repeat(1, 2) if k.endswith("1.self_attn.q_proj.lora_A.weight") else v for k, v in t.items()})  # fmt: skip
    says(
        lambda: pissa("info", wide, "--base", tiny_model), "layers.1.self_attn.q_proj", "needs (8, 64)", "another size"
    )
    cut = changed(lora, tmp_path / "cut", lambda t: {k: v for k, v in t.items() if "layers.1." not in k},
                  target_modules=["q_proj", "v_proj", "up_proj"])  # fmt: skip
    says(lambda: pissa("info", cut, "--base", tiny_model), "lacks", "layers.1.", "which its config has on this base")
    named = changed(cut, tmp_path / "named", target_modules=r".*layers\.\d+\.(self_attn\.[qv]_proj|mlp\.up_proj)")
    says(lambda: pissa("info", named, "--base", tiny_model), "lacks", "layers.1.", "which its config has on this base")
    says(lambda: pissa("info", lora, "--base", tmp_path), "not a model folder")
    config = read_json(tiny_model / "config.json") | {"quantization_config": {"quant_method": "gptq"}}
    shutil.copytree(tiny_model, tmp_path / "few")
    write_json(tmp_path / "few/config.json", config)
    says(lambda: pissa("info", cells["pissa-none"].start, "--base", tmp_path / "few"), "quantized already")


@pytest.mark.parametrize(("commit", "right"), [("a" * 40, True), ("b" * 40, False)])
def test_the_revision_of_a_folder_of_the_hubs_cache_is_compared(lora, tiny_model, tmp_path, commit, right):
    place = tmp_path / "models--lab--tiny/snapshots" / commit
    shutil.copytree(tiny_model, place)
    assert info.examine(lora, place).given.right is right


def renamed(tensors):
    return {
        name.replace("lora_A", "lora_C") if "layers.0.self_attn.q" in name else name: t for name, t in tensors.items()
    }


BAD = {
    "a renamed tensor": (renamed, {}, ["q_proj has no lora_A", "not whole"]),
    "a missing tensor": (lambda t: dict(list(t.items())[1:]), {}, ["has no lora_", "not whole"]),
    "another rank": (dict, {"r": 3}, ["adapter_config.json says rank 3"]),
    "a pattern that is none": (dict, {"rank_pattern": ["x"]}, ["rank_pattern is ['x']"]),
    "a base that is no name": (dict, {"base_model_name_or_path": {"x": 1}}, ["base_model_name_or_path is {'x': 1}"]),
    "modules that are none": (dict, {"modules_to_save": True}, ["modules_to_save is True"]),
    "another method": (dict, {"peft_type": "IA3"}, ["not the config of a LoRA"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_adapter_is_refused(lora, tmp_path, case):
    tensors, fields, words = BAD[case]
    bad = changed(lora, tmp_path / "bad", tensors, **fields)
    says(lambda: pissa("info", bad), str(bad), *words)


def test_cut_files_and_newer_formats_are_refused(lora, cells, tmp_path, capsys):
    shutil.copytree(lora, tmp_path / "cut")
    path = tmp_path / "cut/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    says(lambda: pissa("info", tmp_path / "cut"), str(path), "its header promises")
    shutil.copytree(cells["pissa-none"].start, tmp_path / "newer")
    base = read_json(tmp_path / "newer/base.json")
    write_json(tmp_path / "newer/base.json", base | {"format": base["format"] + 1})
    says(lambda: pissa("info", tmp_path / "newer"), "format 2", "newer version")
    write_json(tmp_path / "newer/base.json", base)
    fields = read_json(tmp_path / "newer/factors.json")
    write_json(tmp_path / "newer/factors.json", fields | {"lora_alpha": 99})
    says(lambda: pissa("info", tmp_path / "newer"), "were changed after they were made")
    (tmp_path / "empty/notes").mkdir(parents=True)
    says(lambda: pissa("info", tmp_path / "empty"), "neither an adapter", "It holds: notes")
    says(lambda: pissa("info", tmp_path / "nowhere"), "no such folder", "hf download")
    (tmp_path / "cell/trained").mkdir(parents=True)
    write_json(tmp_path / "cell/train.json", {"spec": {"method": "pissa"}})
    says(lambda: pissa("info", tmp_path / "cell"), "train.json", "not the record of a training")
    assert "written by PEFT 99.0" in shown(capsys, changed(lora, tmp_path / "peft", peft_version="99.0"))


def test_targets_without_factors_are_told(lora, tmp_path, capsys):
    text = shown(capsys, changed(lora, tmp_path / "a", target_modules=["q_proj", "v_proj", "up_proj", "k_proj"]))
    assert "target_modules has k_proj, of which the file holds no factors" in text


@pytest.mark.parametrize(
    ("quant", "on"), [("none", "the residual W - s B0 A0"), ("nf4", "the residual nf4(W - s B0 A0)")]
)
def test_a_start_that_was_decomposed_belongs_on_its_residual(tiny_model, tmp_path, quant, on, capsys):
    """By its tensors alone it could be a plain LoRA; base.json beside it says what it is."""
    asked = ("--rank", "4", "--quant", quant, "--base", "lab/tiny", "--scratch", tmp_path / "kept")
    pissa("decompose", tiny_model, *asked, "--out", tmp_path / "out")
    said = shown(capsys, tmp_path / "out/pissa_init")
    assert f"The start of pissa, on {on}" in said and "plain LoRA" not in said and '"RESIDUAL"' in said


def test_the_base_of_an_adapter_of_a_residual(residual, tiny_model, tiny_gpt2, capsys):
    """base.json beside the start knows the untouched model; another's shapes tell."""
    start = residual / "pissa_init"
    assert "right shapes" in shown(capsys, start, "--base", residual)
    says(lambda: pissa("info", start, "--base", tiny_model), "it is the untouched model", "the residual", "is needed")
    says(lambda: pissa("info", start, "--base", tiny_gpt2["saved"]), "PEFT cannot put it on GPT2LMHeadModel")


def test_a_residual_without_its_start_may_be_the_right_one(residual, tiny_model, tmp_path, capsys):
    shutil.copytree(residual, tmp_path / "alone", ignore=shutil.ignore_patterns("*_init"))
    said = shown(capsys, residual / "pissa_init", "--base", tmp_path / "alone")
    assert "it fits: nothing in it says that it is the residual" in said


@pytest.mark.parametrize("content", [[], {"name": "x"}], ids=["no object", "not whole"])
def test_a_base_json_of_something_else_is_named(lora, pissa_trained, tmp_path, content):
    folder = shutil.copytree(lora, tmp_path / "adapter")
    write_json(folder / "base.json", content)
    says(lambda: pissa("info", folder), "base.json", "not what this version writes")
    init = shutil.copytree(pissa_trained.init, tmp_path / "init")
    write_json(init / "base.json", content)
    asked = ("--init", init, "--out", tmp_path / "out")
    says(lambda: pissa("convert", pissa_trained.adapter, *asked), "base.json", "not what this version writes")
