"""A residual model and its initial adapter: what stock PEFT makes, and the bits that a cell trains on."""

import re
import shutil

import pytest
import torch
from commands import pissa
from decomposed import decompose, files, pair, same, tensors
from helpers import LLAMA, load_json
from peer import TOKENS, loaded, logits, plain
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from stage import init_spec, says
from starting import made_of, relative
from transformers import AutoModelForCausalLM

from pissa_repro import methods
from pissa_repro.adapters.folder import ADAPTER, CONFIG
from pissa_repro.model.base import set_base
from pissa_repro.model.factors import USUAL, product
from pissa_repro.model.load import load_base
from pissa_repro.sources.fetched import fetch_model

WITH_FACTORS = [name for name in methods.names() if methods.has_factors(name) and not methods.load(name).STATISTICS]
KINDS = [(m, q) for m in WITH_FACTORS for q in ("none", "nf4") if methods.refusal(m, q) is None]


def relative_to(weight, rest) -> float:
    return (rest.double().norm() / weight.double().norm()).item()


def test_residual_and_adapter_are_those_of_peft(residual, tiny_model):
    torch.manual_seed(0)
    fields = {"r": 4, "lora_alpha": 8, "target_modules": LLAMA, "task_type": "CAUSAL_LM"}
    peers = get_peft_model(plain(tiny_model), LoraConfig(init_lora_weights="pissa", **fields))
    ours = pair(residual)
    config, theirs = ours.peft_config["default"], peers.peft_config["default"]
    assert (config.r, config.lora_alpha, config.target_modules) == (theirs.r, theirs.lora_alpha, theirs.target_modules)
    assert config.init_lora_weights is True and config.base_model_name_or_path is None
    for name, module in peers.named_modules():
        if hasattr(module, "lora_A"):
            mine = ours.get_submodule(name)
            assert relative(mine.base_layer.weight, module.base_layer.weight) < 1e-6
            products = (m.lora_B["default"].weight @ m.lora_A["default"].weight for m in (mine, module))
            assert relative(*products) < 1e-5
    assert same(plain(residual).state_dict(), ours.unload().state_dict())


def snippet(folder) -> str:
    """The Python of the model card that loads and trains."""
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]


@pytest.mark.parametrize("kind", ["llama", "gpt2 as saved", "gpt2 as on the hub", "sharded"])
def test_the_lines_of_the_card_load_the_base_models_outputs(
    kind, residual, tiny_model, tiny_gpt2, sharded, tmp_path, monkeypatch, recwarn
):
    """Also Conv1D, which PEFT finds to be transposed, and modules that the files name without `transformer.`."""
    source = {"llama": tiny_model, "sharded": sharded, "gpt2 as saved": tiny_gpt2["saved"]}.get(kind, tiny_gpt2["hub"])
    words = ("--dtype", "float32") if kind == "sharded" else ()
    out = residual if kind == "llama" else decompose(source, tmp_path / "out", *words)
    names = {}
    monkeypatch.chdir(out)
    exec(snippet(out), names)
    model = names["model"]
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trainable) == 2 * len(load_json(out / "pissa_init/init.json")["modules"])
    assert not [str(one.message) for one in recwarn if "fan_in" in str(one.message) or "missing" in str(one.message)]
    assert relative(logits(model), logits(plain(source))) < 1e-5
    assert relative(logits(model.unload()), logits(plain(source))) > 0.1
    assert {p.name for p in out.iterdir()} - {"README.md", "pissa_init"} == {
        p.name for p in source.iterdir() if p.name != "README.md"
    }


def test_the_loaded_pair_trains_and_converts_to_a_lora_on_the_base(residual, tiny_model, tmp_path):
    model = pair(residual, is_trainable=True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(2):
        model.train()(input_ids=TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path / "trained")
    pissa("convert", tmp_path / "trained", "--init", residual / "pissa_init", "--out", tmp_path / "lora")
    assert relative(logits(model), logits(plain(tiny_model))) > 1e-3
    assert relative(loaded(tiny_model, tmp_path / "lora"), logits(model)) < 1e-5


@pytest.mark.parametrize(("method", "quant"), KINDS)
def test_the_weights_are_the_bits_that_a_cell_trains_on(method, quant, tiny_model, tmp_path):
    """base.set_base, of the factors that a sweep makes; the adapter in <method>_init. A core has no place in it."""
    turns = 3 if "alternations" in methods.options(method, quant, {}, "test") else None
    words = ("--method", method, "--quant", quant, *(("--alternations", turns) if turns else ()))
    options = methods.options(method, quant, {"alternations": turns} if turns else {}, "test")
    made = made_of(tiny_model, init_spec(method=method, quant=quant, options=options))
    ranks = methods.redistributes(method, options)
    if ranks or made.trained != USUAL:
        unlike = f"{' and '.join(made.trained)} train, which other trainers do not know"
        own = "it gives every module a rank of its own"
        told = f"--method {method}: {own if ranks else unlike}"
        says(lambda: decompose(tiny_model, tmp_path / "out", *words), told)
        return
    out = decompose(tiny_model, tmp_path / "out", *words)
    model = load_base(tiny_model)
    set_base(model, made, quant, "float32", pack=False)
    assert same(plain(out).state_dict(), model.state_dict())
    stored = load_file(out / f"{method}_init" / ADAPTER)
    assert len(stored) == 2 * len(made.A) and all(
        torch.equal(stored[f"base_model.model.{name}.lora_A.weight"], made.A[name]) for name in made.A
    )
    record = load_json(out / f"{method}_init/init.json")
    assert record["offset"] == made.offset and record["rounding"] == 0
    assert record["reload"] == 0 if quant == "nf4" else record["reload"] is None


def test_the_quantized_residual_in_bfloat16_is_as_near_as_it_says(tiny_model, tmp_path):
    """What storing moves, and what quantizing again makes of it: by bitsandbytes, as transformers loads it."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    out = decompose(tiny_model, tmp_path / "out", "--quant", "nf4", "--alternations", 5, "--dtype", "bfloat16")
    record, weights, before = load_json(out / "pissa_init/init.json"), tensors(out), tensors(tiny_model)
    factors = load_file(out / "pissa_init" / ADAPTER)
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16} != {t.dtype for t in factors.values()}
    for name, facts in record["modules"].items():
        weight = before[f"{name}.weight"]
        a, b = (factors[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
        rest = (weight - product(a, b, 1.0)).view(-1, 64)
        base = dequantize_4bit(*quantize_4bit(rest, quant_type="nf4", blocksize=64)).view(weight.shape)
        stored = weights[f"{name}.weight"].float()
        again = dequantize_4bit(*quantize_4bit(stored.view(-1, 64), quant_type="nf4", blocksize=64)).view(weight.shape)
        assert facts["rounding"] == pytest.approx(relative_to(weight, stored - base), rel=1e-4)
        assert facts["reload"] == pytest.approx(relative_to(weight, again - base), rel=1e-4)
        assert 0 < facts["rounding"] < 2**-8 and 0 < facts["reload"] < 2**-7
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "no plain LoRA" in card and 'load_in_4bit=True, bnb_4bit_quant_type="nf4"' in card


def test_transformers_quantizes_the_residual_to_the_bits_that_are_stored(tiny_model, tmp_path):
    """By the lines of the card: nf4 of dequantized nf4 is the same."""
    from bitsandbytes.functional import dequantize_4bit

    out = decompose(tiny_model, tmp_path / "out", "--quant", "nf4")
    names = {}
    exec(re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1], names)
    packed = AutoModelForCausalLM.from_pretrained(out, quantization_config=names["quantization_config"])
    for name, weight in tensors(out).items():
        if ".layers." in name and "norm" not in name:
            found = packed.get_parameter(name)
            assert torch.equal(dequantize_4bit(found.data, found.quant_state), weight), name


@pytest.mark.parametrize(("method", "turns"), [("pissa", 1), ("loftq", 2)])
def test_an_adapter_on_a_quantized_residual_is_not_converted(tiny_model, tmp_path, method, turns):
    """LoftQ takes out what is not in its adapter; a QLoRA is a plain LoRA."""
    out = decompose(tiny_model, tmp_path / "out", "--method", method, "--quant", "nf4", "--alternations", turns)
    qlora = decompose(tiny_model, tmp_path / "qlora", "--method", "lora", "--quant", "nf4") / "lora_init"

    def to_lora(init):
        trained = shutil.copytree(init, tmp_path / init.name)  # it need not have moved
        pissa("convert", trained, "--init", init, "--out", tmp_path / "lora")

    says(lambda: to_lora(out / f"{method}_init"), "quantized")
    to_lora(qlora)
    assert load_json(tmp_path / "lora" / CONFIG)["r"] == 4


@pytest.mark.parametrize("words", [(), ("--lossy",)])
def test_loftq_with_one_turn_takes_nothing_out_and_is_copied(tiny_model, tmp_path, capsys, words):
    """Its start is not zero, but the base is nf4(W), so that it is a LoRA on the model quantized to nf4."""
    out = decompose(tiny_model, tmp_path / "out", "--method", "loftq", "--quant", "nf4", "--alternations", 1)
    init = out / "loftq_init"
    assert all(tensor.any() for tensor in tensors(init).values())
    trained = shutil.copytree(init, tmp_path / "trained")
    pissa("convert", trained, "--init", init, "--out", tmp_path / "lora", *words)
    assert same(tensors(tmp_path / "lora"), tensors(trained))
    assert "on the base model quantized as nf4" in capsys.readouterr().out


def test_several_ranks_are_the_bytes_of_each_alone_from_one_walk(sharded, tmp_path, monkeypatch):
    from pissa_repro.model import whole

    honest, read = whole.safe_open, []
    monkeypatch.setattr(whole, "safe_open", lambda path, **words: read.append(path) or honest(path, **words))
    words = ("--quant", "nf4", "--alternations", 2, "--out")
    pissa("decompose", sharded, "--rank", 16, "--rank", 4, *words, tmp_path / "both", "--scratch", tmp_path / "a")
    assert len(read) == len(tensors(sharded))
    pissa("decompose", sharded, "--rank", 4, *words, tmp_path / "one", "--scratch", tmp_path / "b")
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["r16", "r4"]
    assert files(tmp_path / "both/r4") == files(tmp_path / "one")
    assert load_json(tmp_path / "both/r16/pissa_init" / CONFIG)["r"] == 16


def test_the_folder_names_no_place_and_the_card_has_base_and_licence(sharded, tmp_path):
    source = shutil.copytree(sharded, tmp_path / "source")
    card = "---\nlanguage: en\nlicense: llama2\nlicense_link: LICENSE\n---\n\n# A model\n\nlicense: none\n"
    (source / "README.md").write_text(card, encoding="utf-8")
    out = decompose(source, tmp_path / "out", "--base", "lab/tiny", "--published-as", "me/tiny-r4")
    head = (out / "README.md").read_text(encoding="utf-8").split("---")[1]
    assert "base_model: lab/tiny\nlicense: llama2\nlicense_link: LICENSE\n" in head and "none" not in head
    assert load_json(out / "pissa_init" / CONFIG)["base_model_name_or_path"] == "me/tiny-r4"
    base = load_json(out / "pissa_init/base.json")
    assert (base["name"], base["commit"]) == ("lab/tiny", None)
    local = decompose(source, tmp_path / "local")
    assert load_json(local / "pissa_init/base.json")["name"] is None
    for folder in (out, local):
        for path in folder.rglob("*"):
            assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes(), path


def test_a_residual_is_no_base_of_a_cell(residual):
    says(lambda: fetch_model({"path": str(residual)}), "residual", "pissa_init")
