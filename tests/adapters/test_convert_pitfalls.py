"""The pitfalls of PEFT's folders that a conversion ends (docs/pitfalls.md), each by its number."""

import json
import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from commands import pissa
from helpers import Run
from peer import START, TARGETS, changed, convert, loaded, logits, of_rank, plain, train
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from stage import says

from pissa_repro import quantizers
from pissa_repro.adapters.card import VLLM_RANKS
from pissa_repro.model.checks import relative_difference
from pissa_repro.runtime.record import read_json, write_json
from pissa_repro.sources.fetched import fetch_model


@pytest.fixture(scope="module")
def gradient_start(tiny_model, tmp_path_factory):
    """LoRA-GA by stock PEFT, two steps."""
    return train(tiny_model, tmp_path_factory.mktemp("ga"), **START["lora_ga"])


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="pitfall 2: PEFT loses LoRA-GA's offset in a reload")
def test_peft_reloads_lora_ga(gradient_start, tiny_model, tmp_path):
    raw = changed(gradient_start.adapter, tmp_path / "raw", init_lora_weights="lora_ga")
    assert relative_difference(loaded(tiny_model, raw), gradient_start.logits) < 1e-3


def test_lora_ga_is_converted_with_its_offset(gradient_start, tiny_model, tmp_path):
    """Pitfall 2."""
    convert(gradient_start, tmp_path / "out")
    assert (loaded(tiny_model, tmp_path / "out") - gradient_start.logits).abs().max() < 1e-5


def test_without_it_the_model_is_the_untouched_one(pissa_trained, tiny_model, tmp_path):
    """Pitfall 3. PEFT's PiSSA leaves the residual there."""
    convert(pissa_trained, tmp_path / "out")
    wrapped, untouched = PeftModel.from_pretrained(plain(tiny_model), tmp_path / "out"), logits(plain(tiny_model))
    with wrapped.disable_adapter():
        assert torch.equal(logits(wrapped), untouched)
    assert torch.equal(logits(wrapped.unload()), untouched)
    config = LoraConfig(**START["pissa"], target_modules=TARGETS)
    assert not torch.equal(logits(get_peft_model(plain(tiny_model), config).unload()), untouched)


def test_a_cell_that_is_prepared_twice_has_the_same_base(tiny_model, tiny_rows, tmp_path):
    """Pitfall 3: the untouched model is read from its files, which stay, and nothing is taken out of it twice."""
    run = Run(tmp_path, tiny_model, tiny_rows, "pissa")
    run.init()
    first, second = run.prepare(), run.prepare()
    assert first.logits_difference == second.logits_difference < 1e-5
    bases = (one.model.get_base_model().state_dict() for one in (first, second))
    assert all(torch.equal(a, b) for a, b in zip(*(base.values() for base in bases), strict=True))
    assert fetch_model({"path": str(tiny_model)})["fingerprint"] == read_json(run.model)["fingerprint"]


def test_another_adapter_beside_it_has_the_untouched_base(pissa_trained, tiny_model, tmp_path):
    """Pitfall 4. A new LoRA adds nothing to the untouched model."""
    convert(pissa_trained, tmp_path / "out")
    wrapped = PeftModel.from_pretrained(plain(tiny_model), tmp_path / "out")
    wrapped.add_adapter("new", LoraConfig(r=2, target_modules=TARGETS, task_type="CAUSAL_LM"))
    wrapped.set_adapter("new")
    assert torch.equal(logits(wrapped), logits(plain(tiny_model)))


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="pitfall 5: PEFT's conversion drops modules_to_save")
@pytest.mark.filterwarnings("ignore")
def test_pefts_conversion_keeps_modules_to_save(tiny_model, tmp_path):
    trained = train(tiny_model, tmp_path, rate=1e-2, modules_to_save=["lm_head"], **START["pissa"])
    trained.model.save_pretrained(tmp_path / "peft", path_initial_model_for_weight_conversion=str(trained.init))
    assert any("lm_head" in key for key in load_file(tmp_path / "peft/adapter_model.safetensors"))


@pytest.mark.xfail(strict=True, raises=ValueError, reason="pitfall 5: PEFT's conversion fails on a slash at the end")
def test_pefts_conversion_takes_a_trailing_slash(pissa_trained, tmp_path):
    shutil.copytree(pissa_trained.init, tmp_path / "init")
    initial = f"{tmp_path}/init/"
    pissa_trained.model.save_pretrained(tmp_path / "peft", path_initial_model_for_weight_conversion=initial)


@pytest.mark.filterwarnings("ignore")
def test_what_peft_drops_or_refuses_is_checked_by_us(tiny_model, tmp_path):
    """Pitfall 5: modules_to_save, with rsLoRA and both patterns, and slashes at the ends of the paths."""
    fields = {"use_rslora": True, "rank_pattern": {"q_proj": 3}, "alpha_pattern": {"v_proj": 7}}
    trained = train(tiny_model, tmp_path, rate=1e-2, modules_to_save=["lm_head"], **START["pissa"], **fields)
    pissa("convert", f"{trained.adapter}/", "--init", f"{trained.init}/", "--out", f"{tmp_path}/out/")
    assert (loaded(tiny_model, tmp_path / "out") - trained.logits).abs().max() < 1e-5


@pytest.mark.xfail(strict=True, raises=RuntimeError, reason="pitfall 6: low_cpu_mem_usage crashes on PiSSA")
def test_peft_loads_pissa_with_little_memory(pissa_trained, tiny_model, tmp_path):
    raw = changed(pissa_trained.adapter, tmp_path / "raw", init_lora_weights="pissa")
    PeftModel.from_pretrained(plain(tiny_model), raw, low_cpu_mem_usage=True)


def test_a_converted_one_is_loaded_with_little_memory(pissa_trained, tiny_model, tmp_path):
    """Pitfall 6."""
    convert(pissa_trained, tmp_path / "out")
    wrapped = PeftModel.from_pretrained(plain(tiny_model), tmp_path / "out", low_cpu_mem_usage=True)
    assert (logits(wrapped) - pissa_trained.logits).abs().max() < 1e-5


def quantized(source, folder):
    """A copy of a model folder whose adapted matrices went through nf4, as residuals of QPiSSA are released."""
    model = plain(source)
    for name, module in model.named_modules():
        if name.endswith(tuple(TARGETS)):
            module.weight.data = quantizers.roundtrip(module.weight.data, "nf4")
    model.save_pretrained(folder)
    return folder


def test_a_quantized_residual_is_not_the_base_of_the_converted_adapter(pissa_trained, tiny_model, tmp_path):
    """Pitfall 7: quantize(W - AB) + A'B' is neither W + A'B' - AB nor quantize(W) + A'B' - AB. PEFT's folders do not
    tell that the base was quantized; the check of the logits finds it."""
    residual = quantized(pissa_trained.residual, tmp_path / "residual")
    trained = loaded(residual, pissa_trained.adapter)
    convert(pissa_trained, tmp_path / "out")
    on_plain, on_quantized = (
        relative_difference(loaded(base, tmp_path / "out"), trained)
        for base in (tiny_model, quantized(tiny_model, tmp_path / "base"))
    )
    assert 1e-3 < on_plain < on_quantized
    check = ("--check", residual, "--base-folder", tiny_model)
    says(lambda: convert(pissa_trained, tmp_path / "checked", *check), "logits differ", "limit")
    assert not (tmp_path / "checked").exists()


def test_the_card_names_the_rank_that_vllm_needs(pissa_trained, tmp_path):
    """Pitfall 21: twice the rank, where vLLM takes 16 unless it is told otherwise, and certain ranks only."""
    limits = {}
    for rank in (4, 16, 20, 256, 300):
        folder = tmp_path / str(rank)
        made = [of_rank(rank, source, folder) for source in (pissa_trained.adapter, pissa_trained.init)]
        pissa("convert", made[0], "--init", made[1], "--out", folder / "out")
        found = re.search(r"--max-lora-rank (\d+)", (folder / "out/README.md").read_text(encoding="utf-8"))
        limits[rank] = int(found[1]) if found else None
    assert limits == {4: 8, 16: 32, 20: 64, 256: 512, 300: None}


def test_the_ranks_of_the_card_are_those_of_vllm():
    """Pitfall 21. Read from its source, where it is installed."""
    found = find_spec("vllm")
    if found is None:
        pytest.skip("vLLM is not installed")
    source = (Path(found.origin).parent / "config/lora.py").read_text(encoding="utf-8")
    listed = re.search(r"^MaxLoRARanks = Literal\[([\d, ]+)\]", source, flags=re.MULTILINE)[1]
    assert tuple(map(int, listed.split(","))) == VLLM_RANKS
    assert re.search(r"^    max_lora_rank: MaxLoRARanks = 16$", source, flags=re.MULTILINE)


def test_the_lines_of_the_card_run_with_a_space_in_the_name(pissa_trained, tmp_path):
    convert(pissa_trained, tmp_path / "my lora")
    text = (tmp_path / "my lora/README.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("vllm serve")]
    assert shlex.split(line)[-1] == "my lora=./my lora" and 'PeftModel.from_pretrained(base, "my lora")' in text


BASES = [  # what the start's config says, what is asked for, and what is kept
    ("lab/base", None, "lab/base"),
    ("/models/base", None, None),
    ("base", None, None),
    ("lab/base", "lab/other", "lab/other"),
    (None, None, None),
]


@pytest.mark.parametrize(("said", "asked", "kept"), BASES)
def test_the_base_is_a_hub_id_or_none(pissa_trained, tmp_path, said, asked, kept):
    """The start names the untouched model; the adapter names the residual that it was trained on."""
    init = changed(pissa_trained.init, tmp_path / "init", base_model_name_or_path=said, revision="abc")
    adapter = changed(pissa_trained.adapter, tmp_path / "a", base_model_name_or_path="lab/residual")
    pissa("convert", adapter, "--init", init, "--out", tmp_path / "out", *(["--base", asked] if asked else []))
    config = json.loads((tmp_path / "out/adapter_config.json").read_text(encoding="utf-8"))
    assert (config["base_model_name_or_path"], config["revision"]) == (kept, "abc" if kept and kept == said else None)
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "residual\n" not in card and (f"base_model: {kept}\n" in card) == bool(kept)
    assert "init_lora_weights" in config and str(tmp_path) not in card


@pytest.mark.parametrize(
    ("name", "commit", "kept"),
    [("lab/base", None, "lab/base"), ("gpt2", "a" * 40, "gpt2"), ("model", None, None), ("/models/base", None, None)],
)
def test_a_bare_word_beside_the_start_is_a_folder_of_another_machine(pissa_trained, tmp_path, name, commit, kept):
    """base.json of a sweep's start names a folder by its last component."""
    init = changed(pissa_trained.init, tmp_path / "init", base_model_name_or_path=None)
    known = {"name": name, "commit": commit, "fingerprint": "f" * 64, "offset": "start", "quant": "none", "format": 1}
    write_json(init / "base.json", known)
    pissa("convert", pissa_trained.adapter, "--init", init, "--out", tmp_path / "out")
    config = read_json(tmp_path / "out/adapter_config.json")
    assert (config["base_model_name_or_path"], config["revision"]) == (kept, commit)
